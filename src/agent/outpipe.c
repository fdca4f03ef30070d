#include "agent/outpipe.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "agent/agent_internal.h"
#include "base/error.h"

enum { PIECE_MAX = 32 * 1024 };

static int prepare(int fd, struct error *err)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return error_set(err, -errno, "make a descriptor non-blocking");
	return 0;
}

/* Reads once; 1: there may be more, 0: nothing now, -1: the end. */
static int pass_on(struct outpipe *pipe)
{
	char buffer[PIECE_MAX];
	size_t credit = stream_credit(pipe->stream);
	ssize_t n;

	if (credit == 0)
		return 0;
	do
		n = read(pipe->fd, buffer, credit < sizeof(buffer) ? credit : sizeof(buffer));
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	/* A terminal whose other side is closed says EIO. */
	if (n <= 0)
		return -1;
	stream_send(pipe->stream, pipe->channel, buffer, (size_t) n);
	return 1;
}

static void close_it(struct outpipe *pipe)
{
	pipe->source = sd_event_source_disable_unref(pipe->source);
	fd_close(pipe->fd);
	pipe->fd = -1;
}

static int on_readable(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct outpipe *pipe = data;

	(void) fd;
	(void) revents;
	if (stream_credit(pipe->stream) == 0) {
		sd_event_source_set_enabled(source, SD_EVENT_OFF);
		return 0;
	}
	if (pass_on(pipe) < 0) {
		close_it(pipe);
		if (pipe->ended)
			pipe->ended(pipe->data);
	}
	return 0;
}

int outpipe_start(struct outpipe *pipe, struct stream *stream, enum frame_channel channel, int fd,
		  void (*ended)(void *data), void *data, struct error *err)
{
	int r;

	*pipe = (struct outpipe){ stream, channel, fd, false, NULL, ended, data };
	r = prepare(fd, err);
	if (r < 0)
		return r;
	r = sd_event_add_io(stream_agent(stream)->event, &pipe->source, fd, EPOLLIN, on_readable,
			    pipe);
	return r < 0 ? error_set(err, r, "watch a pipe") : 0;
}

void outpipe_pause(struct outpipe *pipe)
{
	pipe->paused = true;
	sd_event_source_set_enabled(pipe->source, SD_EVENT_OFF);
}

void outpipe_resume(struct outpipe *pipe)
{
	pipe->paused = false;
	outpipe_credited(pipe);
}

void outpipe_credited(struct outpipe *pipe)
{
	if (pipe->source && !pipe->paused && stream_credit(pipe->stream) > 0)
		sd_event_source_set_enabled(pipe->source, SD_EVENT_ON);
}

bool outpipe_drain(struct outpipe *pipe)
{
	int more = 1;

	while (pipe->fd >= 0 && more > 0)
		more = pass_on(pipe);
	if (pipe->fd >= 0 && more < 0)
		close_it(pipe);
	return pipe->fd < 0 || stream_credit(pipe->stream) > 0;
}

void outpipe_done(struct outpipe *pipe)
{
	close_it(pipe);
}

void inpipe_close(struct inpipe *pipe)
{
	pipe->source = sd_event_source_disable_unref(pipe->source);
	fd_close(pipe->fd);
	pipe->fd = -1;
	pipe->gone = true;
	stream_grant(pipe->stream, pipe->pending.size);
	strbuf_consume(&pipe->pending, pipe->pending.size);
}

static void flush(struct inpipe *pipe)
{
	while (pipe->fd >= 0 && pipe->pending.size > 0) {
		ssize_t n = write(pipe->fd, pipe->pending.data, pipe->pending.size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			inpipe_close(pipe);
			return;
		}
		strbuf_consume(&pipe->pending, (size_t) n);
		stream_grant(pipe->stream, (size_t) n);
	}
	if (pipe->fd < 0)
		return;
	if (pipe->pending.size == 0 && pipe->finishing) {
		inpipe_close(pipe);
		if (pipe->finished)
			pipe->finished(pipe->data);
	} else
		sd_event_source_set_enabled(pipe->source,
					    pipe->pending.size > 0 ? SD_EVENT_ON : SD_EVENT_OFF);
}

static int on_writable(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	(void) source;
	(void) fd;
	(void) revents;
	flush(data);
	return 0;
}

int inpipe_start(struct inpipe *pipe, struct stream *stream, int fd, struct error *err)
{
	int r;

	pipe->stream = stream;
	pipe->fd = fd;
	r = prepare(fd, err);
	if (r < 0)
		return r;
	r = sd_event_add_io(stream_agent(stream)->event, &pipe->source, fd, EPOLLOUT, on_writable,
			    pipe);
	if (r < 0)
		return error_set(err, r, "watch a pipe");
	/* What arrived before there was anywhere to put it. */
	flush(pipe);
	return 0;
}

void inpipe_write(struct inpipe *pipe, const char *data, size_t size)
{
	if (pipe->gone || pipe->finishing) {
		stream_grant(pipe->stream, size);
		return;
	}
	strbuf_append(&pipe->pending, data, size);
	flush(pipe);
}

void inpipe_finish(struct inpipe *pipe)
{
	pipe->finishing = true;
	flush(pipe);
}

void inpipe_done(struct inpipe *pipe)
{
	pipe->source = sd_event_source_disable_unref(pipe->source);
	fd_close(pipe->fd);
	pipe->fd = -1;
	strbuf_done(&pipe->pending);
}
