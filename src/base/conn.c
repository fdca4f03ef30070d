#include "base/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"

enum { READ_SIZE = 64 * 1024, KEEP_SIZE = 4096 };

struct conn {
	int fd;
	sd_event_source *source;
	struct conn_limits limits;
	const struct conn_ops *ops;
	void *data;

	struct strbuf in;
	struct strbuf out;
	size_t out_sent; /* bytes of `out` that the kernel has taken */
	bool above_high; /* conn_write() has said 1 and `drained` has not come yet */
	bool paused;
	bool finishing;
	bool closed;
	bool in_dispatch; /* conn_free() only marks */
	bool freed;
};

size_t conn_queued(const struct conn *conn)
{
	return conn->out.size - conn->out_sent;
}

int conn_fd(const struct conn *conn)
{
	return conn->fd;
}

static void update_events(struct conn *conn)
{
	uint32_t events = 0;

	if (conn->closed)
		return;
	if (!conn->paused && !conn->finishing)
		events |= EPOLLIN;
	if (conn_queued(conn) > 0 || conn->finishing)
		events |= EPOLLOUT;
	sd_event_source_set_io_events(conn->source, events);
}

static void report_closed(struct conn *conn, int reason)
{
	if (conn->closed)
		return;
	conn->closed = true;
	sd_event_source_set_enabled(conn->source, SD_EVENT_OFF);
	if (conn->ops->closed)
		conn->ops->closed(conn, reason, conn->data);
}

/* Gives memory back: hundreds of connections rest, few are busy. */
static void trim(struct strbuf *buf)
{
	if (buf->size == 0 && buf->capacity > KEEP_SIZE)
		strbuf_done(buf);
}

static int flush(struct conn *conn)
{
	while (conn_queued(conn) > 0) {
		ssize_t n = send(conn->fd, conn->out.data + conn->out_sent, conn_queued(conn),
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		conn->out_sent += (size_t) n;
	}
	conn->out.size = 0;
	conn->out_sent = 0;
	trim(&conn->out);
	return 0;
}

static void handle_writable(struct conn *conn)
{
	int r = flush(conn);

	if (r < 0) {
		report_closed(conn, r);
		return;
	}
	if (conn->above_high && conn_queued(conn) <= conn->limits.out_high / 2) {
		conn->above_high = false;
		if (conn->ops->drained)
			conn->ops->drained(conn, conn->data);
	}
	if (!conn->freed && conn->finishing && conn_queued(conn) == 0)
		report_closed(conn, 0);
}

static void handle_readable(struct conn *conn)
{
	size_t room = conn->limits.in_max - conn->in.size;
	size_t want = room < READ_SIZE ? room : READ_SIZE;
	ssize_t n = recv(conn->fd, strbuf_reserve(&conn->in, want), want, MSG_DONTWAIT);
	int r;

	if (n <= 0) {
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			report_closed(conn, n == 0 ? 0 : -errno);
		return;
	}
	strbuf_grown(&conn->in, (size_t) n);
	r = conn->ops->read(conn, &conn->in, conn->data);
	if (conn->freed)
		return;
	if (r >= 0 && conn->in.size >= conn->limits.in_max)
		r = -EMSGSIZE;
	if (r < 0)
		report_closed(conn, r);
	else
		trim(&conn->in);
}

static void release(struct conn *conn)
{
	sd_event_source_disable_unref(conn->source);
	fd_close(conn->fd);
	strbuf_done(&conn->in);
	strbuf_done(&conn->out);
	free(conn);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct conn *conn = data;

	(void) source;
	(void) fd;
	conn->in_dispatch = true;
	/* EPOLLHUP and EPOLLERR come whatever was asked for: recv() finds out what they mean. */
	bool broken = revents & (EPOLLHUP | EPOLLERR);
	if (revents & EPOLLOUT)
		handle_writable(conn);
	if (!conn->freed && !conn->closed && (revents & EPOLLIN) && !conn->paused &&
	    !conn->finishing)
		handle_readable(conn);
	else if (!conn->freed && !conn->closed && broken)
		report_closed(conn, revents & EPOLLERR ? -EPIPE : 0);
	conn->in_dispatch = false;
	if (conn->freed)
		release(conn);
	else
		update_events(conn);
	return 0;
}

int conn_new(sd_event *event, int fd, const struct conn_limits *limits, const struct conn_ops *ops,
	     void *data, struct conn **ret, struct error *err)
{
	AUTO(conn_free) struct conn *conn = mem_new0(struct conn);
	int flags = fcntl(fd, F_GETFL);
	int r;

	conn->fd = -1;
	conn->limits = *limits;
	conn->ops = ops;
	conn->data = data;
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return error_set(err, -errno, "make connection non-blocking");
	r = sd_event_add_io(event, &conn->source, fd, EPOLLIN, on_io, conn);
	if (r < 0)
		return error_set(err, r, "watch connection");
	conn->fd = fd;
	*ret = TAKE_PTR(conn);
	return 0;
}

int conn_write(struct conn *conn, const void *data, size_t size)
{
	const char *bytes = data;
	size_t sent = 0;

	if (conn->closed || conn->freed || conn->finishing)
		return -EPIPE;
	if (size > conn->limits.out_max || conn_queued(conn) > conn->limits.out_max - size)
		return -ENOBUFS;
	if (conn_queued(conn) == 0 && size > 0) {
		ssize_t n = send(conn->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
		/* An error shows again when the loop sends: the owner hears of it there. */
		sent = n > 0 ? (size_t) n : 0;
	}
	if (sent < size) {
		if (conn->out_sent > conn->out.size / 2) {
			strbuf_consume(&conn->out, conn->out_sent);
			conn->out_sent = 0;
		}
		strbuf_append(&conn->out, bytes + sent, size - sent);
		update_events(conn);
	}
	if (conn_queued(conn) > conn->limits.out_high)
		conn->above_high = true;
	return conn->above_high;
}

void conn_pause(struct conn *conn, bool paused)
{
	conn->paused = paused;
	update_events(conn);
}

void conn_finish(struct conn *conn)
{
	conn->finishing = true;
	update_events(conn);
}

void conn_free(struct conn *conn)
{
	if (!conn)
		return;
	if (conn->in_dispatch) {
		conn->freed = true;
		conn->closed = true;
		sd_event_source_set_enabled(conn->source, SD_EVENT_OFF);
		return;
	}
	release(conn);
}
