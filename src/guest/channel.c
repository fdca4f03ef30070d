#include "guest/channel.h"

/* Older headers of vsock need it in front of them. */
#include <sys/socket.h>

#include <errno.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "guest/guest_internal.h"
#include "guest/poller.h"
#include "guest/port.h"

enum {
	PROTOCOL = 1,
	CHANNELS_MAX = 16,
	OUT_HIGH = 1 << 20, /* bytes queued above which streams wait */
	OUT_MAX = 4 << 20,
	READ_SIZE = 64 << 10,
	FLUSH_MS = 1000,
	CLOSED_MS = 500, /* the host comes back later than that when it wants a fresh start */
};

struct stream {
	struct stream *prev, *next;
	struct channel *channel;
	uint64_t id;
	struct job *job; /* NULL: ended here, waiting for the host's close */
	size_t send_credit, receive_credit;
	bool closed; /* our close is on its way */
};

struct channel {
	struct channel *prev, *next;
	struct guest *guest;
	int fd;
	bool listener;
	bool greeted; /* the host has said hello */
	bool broken;  /* freed, or begun anew, when it is safe */
	/* Of the port, which outlives its connections. */
	bool serial;
	bool (*is_connected)(int fd);
	unsigned int closed_ms;
	bool connected;              /* somebody is at the other end, as far as we have seen */
	json_int_t connection;       /* the number that the host gave it; 0: none */
	struct poller_watch *closed; /* is it still closed then? */
	struct poller_watch *watch;
	struct strbuf in, out;
	struct stream *streams;
	unsigned int stream_count;
};

static const char *const state_names[] = { "booting", "running", "ending" };

/* -- sending ------------------------------------------------------------------------------------
 */

static bool flush_out(struct channel *channel)
{
	size_t sent = 0;

	while (sent < channel->out.size && !channel->broken) {
		ssize_t n = write(channel->fd, channel->out.data + sent, channel->out.size - sent);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			channel->broken = true;
		if (n < 0)
			break;
		sent += (size_t) n;
	}
	strbuf_consume(&channel->out, sent);
	return channel->out.size == 0;
}

/* The host does not read, or makes us answer more than it reads. */
static void check_out(struct channel *channel)
{
	if (channel->out.size > OUT_MAX)
		channel->broken = true;
}

static void send_json(struct channel *channel, enum frame_type type, uint64_t id, json_t *body)
{
	(void) frame_append_json(&channel->out, type, id, body);
	json_decref(body);
	check_out(channel);
}

static void send_hello(struct channel *channel)
{
	const struct guest *guest = channel->guest;
	struct utsname names = {};
	json_t *body;

	uname(&names);
	body = json_pack("{s:i, s:s, s:s, s:s, s:I, s:i}", "protocol", PROTOCOL, "version",
			 BRUME_VERSION, "kernel", names.release, "state", state_names[guest->state],
			 "boot_ms", (json_int_t) guest->boot_ms, "pid", (int) command_pid(guest));
	if (channel->serial)
		json_object_set_new(body, "connection", json_integer(channel->connection));
	/* The id is what the host finds it by among the remains of an earlier connection. */
	send_json(channel, FRAME_HELLO, (uint64_t) channel->connection, body);
}

static void send_status(struct channel *channel)
{
	const struct guest *guest = channel->guest;
	json_t *body = json_pack("{s:s}", "state", state_names[guest->state]);

	if (guest->state == GUEST_ENDING)
		json_object_set_new(body, "exit_code", json_integer(command_exit_code(guest)));
	send_json(channel, FRAME_STATUS, 0, body);
}

/* -- streams ------------------------------------------------------------------------------------
 */

struct guest *stream_guest(const struct stream *stream)
{
	return stream->channel->guest;
}

size_t stream_room(const struct stream *stream)
{
	size_t queued = stream->channel->out.size;
	size_t room = queued < OUT_HIGH ? OUT_HIGH - queued : 0;

	return room < stream->send_credit ? room : stream->send_credit;
}

void stream_send(struct stream *stream, enum frame_channel channel, const void *data, size_t size)
{
	if (channel != FRAME_CHANNEL_CONTROL)
		stream->send_credit -= size > stream->send_credit ? stream->send_credit : size;
	frame_append_data(&stream->channel->out, stream->id, channel, data, size);
}

void stream_grant(struct stream *stream, size_t bytes)
{
	if (bytes == 0)
		return;
	stream->receive_credit += bytes;
	frame_append_credit(&stream->channel->out, stream->id, (uint32_t) bytes);
}

void stream_flush(struct stream *stream)
{
	struct channel *channel = stream->channel;

	flush_out(channel);
	/* The hang-up comes back as an event, in which it is safe to free the connection. */
	if (channel->broken && !channel->serial)
		shutdown(channel->fd, SHUT_RDWR);
}

void stream_close_code(struct stream *stream, int exit_code)
{
	stream->job = NULL;
	stream->closed = true;
	send_json(stream->channel, FRAME_STREAM_CLOSE, stream->id,
		  json_pack("{s:i}", "exit_code", exit_code));
}

void stream_close_error(struct stream *stream, const struct error *err, int exit_code)
{
	json_t *text = json_string(err->msg);
	json_t *body;

	/* A message may quote what somebody wrote, cut in the middle of a character. */
	if (!text)
		text = json_string("the error's text is not valid UTF-8");
	body = json_pack("{s:{s:i, s:o}}", "error", "code", -err->code, "message", text);
	if (exit_code > 1)
		json_object_set_new(body, "exit_code", json_integer(exit_code));
	stream->job = NULL;
	stream->closed = true;
	send_json(stream->channel, FRAME_STREAM_CLOSE, stream->id, body);
}

static void stream_free(struct stream *stream)
{
	if (stream->job)
		job_left(TAKE_PTR(stream->job));
	DL_DELETE(stream->channel->streams, stream);
	stream->channel->stream_count--;
	free(stream);
}

static struct stream *find_stream(struct channel *channel, uint64_t id)
{
	struct stream *stream;

	DL_FOREACH(channel->streams, stream)
	if (stream->id == id)
		return stream;
	return NULL;
}

static int open_stream(struct channel *channel, const struct frame *frame, struct error *err)
{
	AUTO(json_decref) json_t *arguments = NULL;
	struct stream *stream;
	struct error why = {};
	int r = frame_json(frame, &arguments, err);

	if (r < 0)
		return r;
	if (find_stream(channel, frame->id) || channel->stream_count >= CHANNEL_STREAMS_MAX)
		return error_say(err, -EPROTO, "a stream is opened twice, or more than %d are",
				 CHANNEL_STREAMS_MAX);
	stream = mem_new0(struct stream);
	stream->channel = channel;
	stream->id = frame->id;
	stream->send_credit = stream->receive_credit = FRAME_CREDIT_INITIAL;
	DL_APPEND(channel->streams, stream);
	channel->stream_count++;
	if (job_open(stream, arguments, &stream->job, &why) < 0)
		stream_close_error(stream, &why, 1);
	return 0;
}

static int take_data(struct channel *channel, const struct frame *frame, struct error *err)
{
	struct stream *stream = find_stream(channel, frame->id);
	enum frame_channel number;
	struct error why = {};
	const char *data;
	size_t size;
	int r = frame_data(frame, &number, &data, &size, err);

	/* What was on its way when the stream ended here. */
	if (r < 0 || !stream || !stream->job)
		return r;
	if (number != FRAME_CHANNEL_CONTROL) {
		if (size > stream->receive_credit)
			return error_say(err, -EPROTO, "more data than the host may send");
		stream->receive_credit -= size;
	}
	if (job_received(stream->job, number, data, size, &why) < 0 && stream->job) {
		job_left(TAKE_PTR(stream->job));
		stream_close_error(stream, &why, 1);
	}
	return 0;
}

static int take_credit(struct channel *channel, const struct frame *frame, struct error *err)
{
	struct stream *stream = find_stream(channel, frame->id);
	uint32_t bytes;
	int r = frame_credit(frame, &bytes, err);

	if (r < 0 || !stream || !stream->job)
		return r;
	stream->send_credit += bytes;
	job_writable(stream->job);
	return 0;
}

static void take_close(struct channel *channel, const struct frame *frame)
{
	struct stream *stream = find_stream(channel, frame->id);

	if (!stream)
		return;
	if (!stream->closed)
		send_json(channel, FRAME_STREAM_CLOSE, stream->id,
			  json_pack("{s:i}", "exit_code", -1));
	stream_free(stream);
}

/* -- connections --------------------------------------------------------------------------------
 */

static void free_streams(struct channel *channel)
{
	struct stream *stream, *next;

	DL_FOREACH_SAFE(channel->streams, stream, next)
	stream_free(stream);
}

static void channel_free(struct channel *channel)
{
	free_streams(channel);
	poller_unwatch(channel->watch);
	fd_close(channel->fd);
	strbuf_done(&channel->in);
	strbuf_done(&channel->out);
	DL_DELETE(channel->guest->channels, channel);
	free(channel);
}

/* As if it were new: on the port one connection follows the other on the same descriptor. */
static void begin_anew(struct channel *channel, json_int_t connection)
{
	free_streams(channel);
	strbuf_done(&channel->out);
	channel->greeted = channel->broken = false;
	channel->connection = connection;
}

/* What we are in the middle of is not what the host says; it is asked to begin anew. */
static void lose_framing(struct channel *channel)
{
	begin_anew(channel, 0);
	strbuf_done(&channel->in);
	send_hello(channel);
}

static void on_still_closed(void *data)
{
	struct channel *channel = data;

	poller_unwatch(TAKE_PTR(channel->closed));
	channel->connected = channel->is_connected(channel->fd);
	if (channel->connected)
		return;
	begin_anew(channel, 0);
	strbuf_done(&channel->in);
}

/*
 * The kernel tells that the port was closed and opened by other ways than what comes through it,
 * so a close may be seen when the next connection has long said hello.  Only one that lasts counts.
 */
static void follow_port(struct channel *channel)
{
	channel->connected = channel->is_connected(channel->fd);
	if (channel->connected)
		poller_unwatch(TAKE_PTR(channel->closed));
	else if (!channel->closed)
		channel->closed = poller_watch_timer(channel->guest->poller, channel->closed_ms,
						     on_still_closed, channel);
}

/* On the port each connection has a number: the same one again is no news. */
static void take_connection(struct channel *channel, json_int_t connection)
{
	if (channel->greeted && connection != 0 && connection == channel->connection)
		return;
	/* A close that was seen before this is an earlier connection's. */
	poller_unwatch(TAKE_PTR(channel->closed));
	follow_port(channel);
	begin_anew(channel, connection);
	send_hello(channel);
	channel->greeted = true;
}

static int take_hello(struct channel *channel, const struct frame *frame, struct error *err)
{
	AUTO(json_decref) json_t *body = NULL;
	json_int_t protocol;
	int r = frame_json(frame, &body, err);

	if (r < 0)
		return r;
	protocol = json_integer_value(json_object_get(body, "protocol"));
	if (protocol != PROTOCOL)
		return error_say(err, -EPROTO, "the host speaks protocol %lld",
				 (long long) protocol);
	if (channel->serial) {
		take_connection(channel, json_integer_value(json_object_get(body, "connection")));
		return 0;
	}
	if (channel->greeted) {
		free_streams(channel);
		strbuf_done(&channel->out);
		send_hello(channel);
	}
	channel->greeted = true;
	return 0;
}

static int on_frame(const struct frame *frame, void *data, struct error *err)
{
	struct channel *channel = data;

	if (frame->type == FRAME_HELLO)
		return take_hello(channel, frame, err);
	if (!channel->greeted)
		return error_say(err, -EPROTO, "the host has not said hello");
	switch (frame->type) {
	case FRAME_STREAM_OPEN:
		return open_stream(channel, frame, err);
	case FRAME_STREAM_DATA:
		return take_data(channel, frame, err);
	case FRAME_STREAM_CREDIT:
		return take_credit(channel, frame, err);
	case FRAME_STREAM_CLOSE:
		take_close(channel, frame);
		return 0;
	default:
		return error_say(err, -EPROTO, "a %s is not for a guest",
				 frame_type_name(frame->type));
	}
}

/* False: nothing more is there now. */
static bool read_some(struct channel *channel)
{
	struct error err = {};
	ssize_t n;

	do
		n = read(channel->fd, strbuf_reserve(&channel->in, READ_SIZE), READ_SIZE);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return false;
	/* The port reads so while it is closed. */
	if (n == 0 && channel->serial)
		return false;
	if (n <= 0) {
		channel->broken = true;
		return false;
	}
	strbuf_grown(&channel->in, (size_t) n);
	if (frame_read_all(&channel->in, on_frame, channel, &err) < 0) {
		fprintf(stderr, "brume-init: guest channel: %s\n", err.msg);
		if (channel->serial)
			lose_framing(channel);
		else
			channel->broken = true;
	}
	return !channel->broken;
}

static void wake_streams(struct channel *channel)
{
	struct stream *stream, *next;

	DL_FOREACH_SAFE(channel->streams, stream, next)
	if (stream->job)
		job_writable(stream->job);
}

static void on_channel(void *data)
{
	struct channel *channel = data;

	/* What has come is read whether the port is closed or not: that may be old news. */
	if (channel->serial)
		follow_port(channel);
	while (read_some(channel))
		;
	if (flush_out(channel)) {
		wake_streams(channel);
		flush_out(channel);
	}
	if (!channel->broken)
		return;
	if (!channel->serial) {
		channel_free(channel);
		return;
	}
	lose_framing(channel);
	flush_out(channel);
}

static int watch(struct channel *channel)
{
	struct guest *guest = channel->guest;
	int r = poller_watch_fd(guest->poller, channel->fd, on_channel, channel, &channel->watch);

	if (r < 0) {
		close(channel->fd);
		free(channel);
		return r;
	}
	DL_APPEND(guest->channels, channel);
	return 0;
}

static void serve_connection(struct guest *guest, int fd)
{
	struct channel *channel = mem_new0(struct channel);

	*channel = (struct channel){ .guest = guest, .fd = fd };
	if (watch(channel) == 0)
		send_hello(channel);
}

int channel_serve_port(struct guest *guest, const struct channel_port *port)
{
	struct channel *channel = mem_new0(struct channel);

	*channel = (struct channel){ .guest = guest,
				     .fd = port->fd,
				     .serial = true,
				     .is_connected = port->is_connected,
				     .closed_ms = port->closed_ms };
	return watch(channel);
}

static void on_listener(void *data)
{
	struct channel *listener = data, *other;
	int fd, count;

	while ((fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		DL_COUNT(listener->guest->channels, other, count);
		if (count > CHANNELS_MAX)
			close(fd);
		else
			serve_connection(listener->guest, fd);
	}
}

static int listen_vsock(struct guest *guest)
{
	struct sockaddr_vm address = { .svm_family = AF_VSOCK,
				       .svm_cid = VMADDR_CID_ANY,
				       .svm_port = CHANNEL_VSOCK_PORT };
	AUTO(fd_close)
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct channel *listener;
	int r;

	if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0 ||
	    listen(fd, CHANNELS_MAX) < 0)
		return -errno;
	listener = mem_new0(struct channel);
	*listener = (struct channel){ .guest = guest, .fd = fd, .listener = true };
	r = poller_watch_fd(guest->poller, fd, on_listener, listener, &listener->watch);
	if (r < 0) {
		free(listener);
		return r;
	}
	(void) TAKE_FD(fd);
	DL_APPEND(guest->channels, listener);
	return 0;
}

int channel_listen(struct guest *guest, struct error *err)
{
	struct error why = {};
	int r = listen_vsock(guest), port = port_open("brume.guest", &why);

	if (port >= 0)
		return channel_serve_port(guest,
					  &(struct channel_port){ .fd = port,
								  .is_connected = port_connected,
								  .closed_ms = CLOSED_MS });
	if (r < 0)
		return error_set(err, r, "the machine has neither vsock nor a port brume.guest");
	return 0;
}

void channel_tell_status(struct guest *guest)
{
	struct channel *channel;

	DL_FOREACH(guest->channels, channel)
	if (!channel->listener && channel->greeted) {
		send_status(channel);
		flush_out(channel);
	}
}

void channel_flush_all(struct guest *guest)
{
	uint64_t until = clock_monotonic_us(clock_system()) + FLUSH_MS * 1000ull;
	struct channel *channel;

	DL_FOREACH(guest->channels, channel)
	{
		struct pollfd poll_fd = { .fd = channel->fd, .events = POLLOUT };

		while (!channel->listener && (!channel->serial || channel->connected) &&
		       !flush_out(channel) && !channel->broken &&
		       clock_monotonic_us(clock_system()) < until)
			poll(&poll_fd, 1, 100);
	}
}
