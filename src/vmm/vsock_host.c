#include "vmm/vsock_internal.h"

#include <errno.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "vmm/ratelimit.h"

#define SECOND_NS 1000000000ull

enum {
	ANSWER_SECONDS = 10, /* for "CONNECT", and for the guest's answer */
	PAUSE_MS = 100,      /* when there are no descriptors left */
	FIRST_PORT = 1 << 30,
	ACCEPT_BATCH = 16,
	BOTH = VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND,
};

static void on_event(struct loop_source *source, int fd, uint32_t events, void *data);

void vsock_watch(struct vsock_connection *c)
{
	uint32_t events = 0;
	bool keep = false;

	if (c->state == VSOCK_ASKING)
		events = EPOLLIN;
	if (c->state == VSOCK_REQUESTED)
		keep = true;
	if (c->state == VSOCK_OPEN) {
		bool wants = !(c->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV);

		events = (wants && !c->readable && !c->ended ? EPOLLIN : 0) |
			 (c->buffer ? EPOLLOUT : 0);
		/* A hang-up is always reported: only who can do something about it listens. */
		keep = c->ended || !wants;
	}
	if (c->fd < 0 || (!events && !keep)) {
		loop_source_free(c->source);
		c->source = NULL;
	} else if (!c->source) {
		/* Who has not asked for anything yet just runs out of time. */
		if (loop_add_fd(c->vsock->device.loop, c->fd, events, on_event, c, &c->source) <
			    0 &&
		    c->state != VSOCK_ASKING)
			vsock_kill(c);
	} else if (c->events != events) {
		loop_source_set_events(c->source, events);
	}
	c->events = events;
}

/* ---- from the guest ---- */

void vsock_drained(struct vsock_connection *c)
{
	if (c->buffer || c->state != VSOCK_OPEN)
		return;
	if ((c->guest_shutdown & BOTH) == BOTH)
		vsock_kill(c);
	else if (c->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND)
		shutdown(c->fd, SHUT_WR);
}

static void forwarded(struct vsock_connection *c, uint32_t size)
{
	c->forwarded += size;
	if (c->forwarded - c->told >= VSOCK_BUFFER_BYTES / 2)
		vsock_say(c, VSOCK_SAY_CREDIT);
}

static void flush(struct vsock_connection *c)
{
	ssize_t n = send(c->fd, c->buffer + c->buffer_at, c->buffer_size - c->buffer_at,
			 MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		vsock_kill(c);
		return;
	}
	c->buffer_at += (uint32_t) n;
	forwarded(c, (uint32_t) n);
	if (c->buffer_at < c->buffer_size)
		return;
	vsock_drop_buffer(c);
	vsock_drained(c);
}

/* Has room for `size` bytes behind those that are held, in few steps.  False: too much. */
static bool make_room(struct vsock_connection *c, uint32_t held, uint32_t size)
{
	struct vsock *vsock = c->vsock;
	uint32_t capacity = c->buffer_capacity ? c->buffer_capacity : 4096;
	char *buffer;

	if (size > VSOCK_BUFFER_BYTES - held)
		return false;
	while (capacity < held + size)
		capacity *= 2;
	if (capacity == c->buffer_capacity) {
		memmove(c->buffer, c->buffer + c->buffer_at, held);
	} else {
		if (vsock->buffered + capacity - c->buffer_capacity > VSOCK_BUFFERED_MAX)
			return false;
		buffer = mem_try_alloc(capacity);
		if (!buffer)
			return false;
		if (held)
			memcpy(buffer, c->buffer + c->buffer_at, held);
		free(c->buffer);
		c->buffer = buffer;
		vsock->buffered += capacity - c->buffer_capacity;
		c->buffer_capacity = capacity;
	}
	c->buffer_at = 0;
	c->buffer_size = held;
	return true;
}

/* Keeps what the host program did not take. */
static void keep(struct vsock_connection *c, const struct iovec *iov, unsigned int count,
		 uint32_t offset, uint32_t size)
{
	/* More than the credit that it was given, or more than all may have. */
	if (!make_room(c, c->buffer_size - c->buffer_at, size)) {
		vsock_kill(c);
		return;
	}
	c->buffer_size +=
		(uint32_t) queue_iov_read(iov, count, offset, c->buffer + c->buffer_size, size);
}

void vsock_deliver(struct vsock_connection *c, const struct iovec *iov, unsigned int count,
		   uint32_t size)
{
	struct msghdr message = { .msg_iov = (struct iovec *) iov, .msg_iovlen = count };
	ssize_t n = 0;

	if (!c->buffer) {
		n = sendmsg(c->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			vsock_kill(c);
			return;
		}
		if (n < 0)
			n = 0;
		forwarded(c, (uint32_t) n);
	}
	if ((uint32_t) n < size)
		keep(c, iov, count, (uint32_t) n, size - (uint32_t) n);
}

/* ---- the host programs ---- */

static bool parse_line(const struct vsock_connection *c, uint32_t *ret)
{
	const char *digits = c->line + strlen("CONNECT ");
	uint64_t port = 0;

	if (strncmp(c->line, "CONNECT ", strlen("CONNECT ")) != 0 || !*digits)
		return false;
	for (; *digits; digits++) {
		if (*digits < '0' || *digits > '9')
			return false;
		port = 10 * port + (uint64_t) (*digits - '0');
		if (port > UINT32_MAX)
			return false;
	}
	*ret = (uint32_t) port;
	return true;
}

static bool request(struct vsock_connection *c)
{
	struct vsock *vsock = c->vsock;
	struct vsock_key key = {};

	if (!vsock->active || !parse_line(c, &key.guest_port))
		return false;
	do {
		key.host_port = vsock->next_port++;
		if (vsock->next_port < FIRST_PORT)
			vsock->next_port = FIRST_PORT;
	} while (vsock_find(vsock, key));
	vsock_set_key(c, key);
	c->state = VSOCK_REQUESTED;
	vsock_set_due(c, ANSWER_SECONDS * SECOND_NS);
	vsock_say(c, VSOCK_SAY_REQUEST);
	return true;
}

/* Byte by byte: what follows the line is the guest's.  False: the connection is no more. */
static bool read_line(struct vsock_connection *c)
{
	char byte;
	ssize_t n;

	while ((n = recv(c->fd, &byte, 1, MSG_DONTWAIT)) == 1) {
		if (byte == '\n')
			return request(c);
		if (!byte || c->line_size == VSOCK_LINE_MAX - 1)
			return false;
		c->line[c->line_size++] = byte;
	}
	return n < 0 && (errno == EAGAIN || errno == EINTR);
}

static void on_event(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct vsock_connection *c = data;
	struct vsock *vsock = c->vsock;
	struct vsock_key key;
	bool gone = events & (EPOLLHUP | EPOLLERR);

	(void) source, (void) fd;
	if (c->state == VSOCK_ASKING && !read_line(c)) {
		vsock_connection_free(c);
		return;
	}
	if (c->state == VSOCK_ASKING)
		return;
	if (c->state == VSOCK_REQUESTED && gone)
		vsock_kill(c);
	if (c->state == VSOCK_OPEN && (events & EPOLLOUT) && c->buffer)
		flush(c);
	if (c->state == VSOCK_OPEN && gone &&
	    (c->ended || (c->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV)))
		vsock_kill(c);
	if (c->state == VSOCK_OPEN && !c->ended && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
		c->readable = true;
		c->hung_up |= gone;
		vsock_say(c, 0);
	}
	key = c->key;
	vsock_serve(vsock);
	c = vsock_find(vsock, key);
	if (c)
		vsock_watch(c);
}

void vsock_accept(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct vsock *vsock = data;

	(void) source, (void) events;
	for (unsigned int i = 0; i < ACCEPT_BATCH; i++) {
		int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct vsock_connection *c;

		if (client < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS)) {
			/* It would wake us for ever. */
			loop_source_free(vsock->listen_source);
			vsock->listen_source = NULL;
			loop_source_set_timer(vsock->work_timer,
					      ratelimit_now_ns() + PAUSE_MS * SECOND_NS / 1000);
		}
		if (client < 0)
			return;
		if (vsock->count == VSOCK_CONNECTIONS_MAX) {
			close(client);
			continue;
		}
		c = vsock_connection_new(vsock, client);
		vsock_set_due(c, ANSWER_SECONDS * SECOND_NS);
		vsock_watch(c);
	}
}

int vsock_connect(struct vsock *vsock, struct vsock_key key)
{
	AUTO(fd_close) int fd = -1;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct vsock_connection *c;
	int n;

	if (!vsock->path[0] || vsock->count == VSOCK_CONNECTIONS_MAX)
		return -ECONNREFUSED;
	n = snprintf(address.sun_path, sizeof(address.sun_path), "%s_%u", vsock->path,
		     key.host_port);
	if (n < 0 || (size_t) n >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
		return -errno;
	c = vsock_connection_new(vsock, TAKE_FD(fd));
	vsock_set_key(c, key);
	c->state = VSOCK_OPEN;
	vsock_say(c, VSOCK_SAY_RESPONSE);
	return 0;
}

void vsock_accepted(struct vsock_connection *c)
{
	char line[VSOCK_LINE_MAX];
	int n = snprintf(line, sizeof(line), "OK %u\n", c->key.host_port);

	c->state = VSOCK_OPEN;
	c->due_ns = 0;
	if (send(c->fd, line, (size_t) n, MSG_NOSIGNAL | MSG_DONTWAIT) != n)
		vsock_kill(c);
}

int vsock_listen(const char *path, struct error *err)
{
	AUTO(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (fd < 0)
		return error_set(err, -errno, "making a socket");
	if (strlen(path) >= sizeof(address.sun_path))
		return error_say(err, -ENAMETOOLONG,
				 "%s: the path of a socket has at most %zu characters", path,
				 sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, path);
	if (unlink(path) < 0 && errno != ENOENT)
		return error_set(err, -errno, "%s: removing the old socket", path);
	if (bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0 || listen(fd, 128) < 0)
		return error_set(err, -errno, "%s: listening", path);
	return TAKE_FD(fd);
}
