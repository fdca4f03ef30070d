#include "vmm/vm_control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "codec/frame.h"
#include "kern/sock.h"
#include "vmm/loop.h"

enum {
	CONNECTIONS_MAX = 32,
	CALL_BYTES_MAX = 64 * 1024,
	OUT_BYTES_MAX = 1024 * 1024, /* who does not read its answers is not asked any more */
	READ_BYTES = 16 * 1024,
	SOCKET_MODE = 0600,
};

struct connection {
	struct vm_control *control;
	struct connection *next;
	struct loop_source *source;
	int fd;
	struct strbuf in, out;
	int fds[SOCK_FDS_MAX]; /* that came and wait for their call; the oldest first */
	size_t fd_count;
};

/* A call whose answer comes later. */
struct waiting {
	struct vm_control *control;    /* NULL: gone */
	struct connection *connection; /* NULL: gone */
	struct waiting *next;
	uint64_t id;
};

struct vm_control {
	struct loop *loop;
	struct vm *vm;
	int fd;
	struct loop_source *source;
	struct connection *connections;
	unsigned int count;
	struct waiting *waiting;
};

/* ---- connections ---- */

static void connection_end(struct connection *connection)
{
	struct vm_control *control = connection->control;
	struct connection **at = &control->connections;

	while (*at != connection)
		at = &(*at)->next;
	*at = connection->next;
	control->count--;
	for (struct waiting *waiting = control->waiting; waiting; waiting = waiting->next)
		if (waiting->connection == connection)
			waiting->connection = NULL;
	loop_source_free(connection->source);
	fd_close(connection->fd);
	strbuf_done(&connection->in);
	strbuf_done(&connection->out);
	for (size_t i = 0; i < connection->fd_count; i++)
		fd_close(connection->fds[i]);
	free(connection);
}

/* 0, or the connection cannot go on. */
static int flush(struct connection *connection)
{
	while (connection->out.size > 0) {
		ssize_t n = send(connection->fd, connection->out.data, connection->out.size,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			return -errno;
		if (n < 0)
			break;
		strbuf_consume(&connection->out, (size_t) n);
	}
	return loop_source_set_events(connection->source,
				      connection->out.size > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* The oldest descriptor, for who asks whether there is one. */
static int take_fd(struct connection *connection)
{
	int fd = connection->fd_count > 0 ? connection->fds[0] : -1;

	if (fd >= 0)
		memmove(connection->fds, connection->fds + 1,
			--connection->fd_count * sizeof(connection->fds[0]));
	return fd;
}

static int put_answer(struct connection *connection, uint64_t id, const json_t *answer)
{
	int r = frame_append_json(&connection->out, FRAME_RETURN, id, answer);

	return r == 0 && connection->out.size > OUT_BYTES_MAX ? -ENOBUFS : r;
}

static void waiting_end(struct waiting *waiting)
{
	struct waiting **at = &waiting->control->waiting;

	while (*at != waiting)
		at = &(*at)->next;
	*at = waiting->next;
	free(waiting);
}

/* From the main loop, never from within a call. */
static void on_removed(void *data, const char *why)
{
	struct waiting *waiting = data;
	struct connection *connection = waiting->connection;
	AUTO(json_decref) json_t *answer = NULL;
	int r;

	if (!waiting->control) {
		free(waiting);
		return;
	}
	if (connection) {
		answer = why ? json_pack("{s:s}", "error", why) : json_pack("{s:{}}", "result");
		r = put_answer(connection, waiting->id, answer);
		if (r == 0)
			r = flush(connection);
		if (r < 0)
			connection_end(connection);
	}
	waiting_end(waiting);
}

static int on_frame(const struct frame *frame, void *data, struct error *err)
{
	struct connection *connection = data;
	struct vm_control *control = connection->control;
	AUTO(json_decref) json_t *call = NULL;
	AUTO(json_decref) json_t *answer = NULL;
	AUTO(fd_close) int fd = -1;
	struct waiting *waiting;
	int r;

	if (frame->type != FRAME_CALL)
		return error_say(err, -EPROTO, "only calls are understood here");
	r = frame_json(frame, &call, err);
	if (r < 0)
		return r;
	if (vm_control_takes_fd(call))
		fd = take_fd(connection);
	waiting = mem_new0(struct waiting);
	*waiting = (struct waiting){ control, connection, control->waiting, frame->id };
	control->waiting = waiting;
	answer = vm_control_answer(control->vm, call,
				   &(struct vm_control_caller){ &fd, on_removed, waiting });
	if (!answer)
		return 0;
	waiting_end(waiting);
	return put_answer(connection, frame->id, answer);
}

/* What comes with the bytes waits for its call. */
static int keep_fds(struct connection *connection, const int *fds, size_t count)
{
	int r = connection->fd_count + count > SOCK_FDS_MAX ? -EMSGSIZE : 0;

	for (size_t i = 0; i < count; i++)
		if (r == 0)
			connection->fds[connection->fd_count++] = fds[i];
		else
			fd_close(fds[i]);
	return r;
}

static int receive(struct connection *connection)
{
	int fds[SOCK_FDS_MAX];
	size_t count = 0;
	ssize_t n = sock_recv(connection->fd, strbuf_reserve(&connection->in, READ_BYTES),
			      READ_BYTES, fds, &count);
	struct error err = {};
	int r;

	if (n < 0)
		return n == -EAGAIN ? 0 : (int) n;
	r = keep_fds(connection, fds, count);
	if (r < 0 || n == 0)
		return r < 0 ? r : -ECONNRESET;
	strbuf_grown(&connection->in, (size_t) n);
	r = frame_read_all(&connection->in, on_frame, connection, &err);
	if (r == 0 && connection->in.size > CALL_BYTES_MAX)
		r = -EMSGSIZE;
	if (r == 0 && connection->in.size == 0 && connection->fd_count > 0)
		r = -EPROTO;
	return r;
}

static void on_connection(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct connection *connection = data;
	int r = 0;

	(void) source, (void) fd;
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		r = receive(connection);
	if (r == 0)
		r = flush(connection);
	if (r < 0)
		connection_end(connection);
}

static void on_listener(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct vm_control *control = data;
	AUTO(fd_close) int peer = sock_accept(fd);
	struct connection *connection;

	(void) source, (void) events;
	if (peer < 0 || control->count >= CONNECTIONS_MAX)
		return;
	connection = mem_new0(struct connection);
	connection->control = control;
	connection->fd = TAKE_FD(peer);
	connection->next = control->connections;
	control->connections = connection;
	control->count++;
	if (loop_add_fd(control->loop, connection->fd, EPOLLIN, on_connection, connection,
			&connection->source) < 0)
		connection_end(connection);
}

int vm_control_new(const char *path, int fd, struct loop *loop, struct vm *vm,
		   struct vm_control **ret, struct error *err)
{
	AUTO(vm_control_free) struct vm_control *control = mem_new0(struct vm_control);
	int r;

	control->loop = loop;
	control->vm = vm;
	control->fd = -1;
	if (fd < 0) {
		fd = control->fd = sock_listen(path, SOCK_STREAM, SOCKET_MODE);
		if (fd < 0)
			return error_set(err, fd, "control socket %s", path);
	}
	r = loop_add_fd(loop, fd, EPOLLIN, on_listener, control, &control->source);
	if (r < 0)
		return error_set(err, r, "control socket");
	*ret = TAKE_PTR(control);
	return 0;
}

void vm_control_free(struct vm_control *control)
{
	if (!control)
		return;
	while (control->connections) {
		/* The answer to `quit` may still be on its way. */
		flush(control->connections);
		connection_end(control->connections);
	}
	for (struct waiting *waiting = control->waiting; waiting; waiting = waiting->next)
		waiting->control = NULL;
	loop_source_free(control->source);
	fd_close(control->fd);
	free(control);
}
