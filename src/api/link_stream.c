/*
 * The streams of api/link.h.  What may not be sent yet waits as chunks {u32 size, u8 channel,
 * bytes} in `waiting`, so that control messages keep their place between data.
 */
#include <errno.h>
#include <string.h>

#include "api/link.h"
#include "api/link_internal.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"

enum { CREDIT_STEP = 64 * 1024, SEND_MAX = 64 * 1024 };

struct chunk {
	uint32_t size;
	uint8_t channel;
};

static struct link_stream *find(struct link *link, uint64_t id)
{
	struct link_stream *stream = NULL;

	HASH_FIND(hh, link->streams, &id, sizeof(id), stream);
	return stream;
}

static void forget(struct link_stream *stream)
{
	HASH_DEL(stream->link->streams, stream);
	strbuf_done(&stream->waiting);
	free(stream);
}

/* Sends what the credit allows of one chunk; returns how much. */
static size_t send_some(struct link_stream *stream, enum frame_channel channel, const char *data,
			size_t size)
{
	AUTO(strbuf_done) struct strbuf out = {};
	size_t sent = 0;

	if (channel == FRAME_CHANNEL_CONTROL) {
		frame_append_data(&out, stream->id, channel, data, size);
		link_send(stream->link, &out);
		return size;
	}
	while (sent < size && stream->out_credit > 0) {
		size_t n = size - sent;

		n = n < SEND_MAX ? n : SEND_MAX;
		n = n < stream->out_credit ? n : (size_t) stream->out_credit;
		frame_append_data(&out, stream->id, channel, data + sent, n);
		stream->out_credit -= n;
		sent += n;
	}
	if (out.size > 0)
		link_send(stream->link, &out);
	return sent;
}

static void send_waiting(struct link_stream *stream)
{
	struct strbuf *waiting = &stream->waiting;
	size_t offset = 0;

	while (offset < waiting->size) {
		struct chunk chunk;
		char *at = waiting->data + offset;

		memcpy(&chunk, at, sizeof(chunk));
		size_t sent = send_some(stream, chunk.channel, at + sizeof(chunk), chunk.size);
		if (sent < chunk.size) {
			/* The rest becomes the first chunk: its header moves up behind what was
			 * sent. */
			offset += sent;
			chunk.size -= (uint32_t) sent;
			memcpy(waiting->data + offset, &chunk, sizeof(chunk));
			break;
		}
		offset += sizeof(chunk) + chunk.size;
	}
	strbuf_consume(waiting, offset);
	if (waiting->size > 0)
		return;
	strbuf_done(waiting);
	if (!stream->full)
		return;
	stream->full = false;
	if (stream->ops->drained)
		stream->ops->drained(stream, stream->user);
}

int link_stream_write(struct link_stream *stream, enum frame_channel channel, const void *data,
		      size_t size)
{
	size_t sent = stream->waiting.size == 0 ? send_some(stream, channel, data, size) : 0;

	if (sent < size) {
		struct chunk chunk = { (uint32_t) (size - sent), (uint8_t) channel };

		strbuf_append(&stream->waiting, &chunk, sizeof(chunk));
		strbuf_append(&stream->waiting, (const char *) data + sent, size - sent);
		stream->full = true;
	}
	return stream->full;
}

int link_stream_control(struct link_stream *stream, const json_t *message)
{
	AUTO(free) char *text = json_text(message);

	return link_stream_write(stream, FRAME_CHANNEL_CONTROL, text, strlen(text));
}

void link_stream_consumed(struct link_stream *stream, size_t size)
{
	AUTO(strbuf_done) struct strbuf out = {};

	stream->in_consumed += size;
	if (stream->in_consumed < CREDIT_STEP)
		return;
	frame_append_credit(&out, stream->id, (uint32_t) stream->in_consumed);
	stream->in_credit += stream->in_consumed;
	stream->in_consumed = 0;
	link_send(stream->link, &out);
}

void link_backlog_add(struct link_backlog *backlog, struct link_stream *stream, size_t size,
		      bool full)
{
	backlog->full |= full;
	if (backlog->full)
		backlog->bytes += size;
	else
		link_stream_consumed(stream, size);
}

void link_backlog_drained(struct link_backlog *backlog, struct link_stream *stream)
{
	size_t bytes = backlog->bytes;

	/* First: telling the agent may end the stream, and with it who holds this. */
	*backlog = (struct link_backlog){};
	if (stream && bytes)
		link_stream_consumed(stream, bytes);
}

static void send_close(struct link *link, uint64_t id, const char *message)
{
	AUTO(strbuf_done) struct strbuf out = {};
	AUTO(json_decref) json_t *body = json_object();

	if (message)
		json_object_set_new(body, "error",
				    json_pack("{s:i, s:s}", "code", ECANCELED, "message", message));
	frame_append_json(&out, FRAME_STREAM_CLOSE, id, body);
	link_send(link, &out);
}

int link_stream_open(struct link *link, const json_t *arguments, const struct link_stream_ops *ops,
		     void *user, struct link_stream **ret, struct error *err)
{
	AUTO(strbuf_done) struct strbuf out = {};
	struct link_stream *stream;

	if (!link_connected(link))
		return error_say(err, -EHOSTDOWN, "the agent of the node is not connected");
	if (frame_append_json(&out, FRAME_STREAM_OPEN, link->last_id + 1, arguments) < 0)
		return error_say(err, -EMSGSIZE, "the arguments are larger than %d bytes",
				 FRAME_BODY_MAX);
	stream = mem_new0(struct link_stream);
	stream->link = link;
	stream->id = ++link->last_id;
	stream->ops = ops;
	stream->user = user;
	stream->in_credit = FRAME_CREDIT_INITIAL;
	stream->out_credit = FRAME_CREDIT_INITIAL;
	HASH_ADD(hh, link->streams, id, sizeof(stream->id), stream);
	link_send(link, &out);
	*ret = stream;
	return 0;
}

void link_stream_close(struct link_stream *stream, const char *message)
{
	if (!stream)
		return;
	send_close(stream->link, stream->id, message);
	forget(stream);
}

static int handle_data(struct link_stream *stream, const struct frame *frame, struct error *err)
{
	enum frame_channel channel;
	const char *data;
	size_t size;
	int r = frame_data(frame, &channel, &data, &size, err);

	if (r < 0)
		return r;
	if (channel != FRAME_CHANNEL_CONTROL) {
		if (size > stream->in_credit)
			return error_say(
				err, -EPROTO,
				"agent link: stream %llu sent %zu bytes, its window is %llu",
				(unsigned long long) stream->id, size,
				(unsigned long long) stream->in_credit);
		stream->in_credit -= size;
	}
	if (stream->ops->data)
		stream->ops->data(stream, channel, data, size, stream->user);
	else if (channel != FRAME_CHANNEL_CONTROL)
		link_stream_consumed(stream, size);
	return 0;
}

static int handle_credit(struct link_stream *stream, const struct frame *frame, struct error *err)
{
	uint32_t bytes = 0;
	int r = frame_credit(frame, &bytes, err);

	if (r < 0)
		return r;
	stream->out_credit += bytes;
	send_waiting(stream);
	return 0;
}

static int handle_close(struct link_stream *stream, const struct frame *frame, struct error *err)
{
	AUTO(json_decref) json_t *result = NULL;
	int r = frame_json(frame, &result, err);

	if (r < 0)
		return r;
	send_close(stream->link, stream->id, NULL);
	stream->ops->closed(stream, result, stream->user);
	forget(stream);
	return 0;
}

int link_stream_handle(struct link *link, const struct frame *frame, struct error *err)
{
	struct link_stream *stream = find(link, frame->id);

	if (!stream)
		return 0;
	if (frame->type == FRAME_STREAM_DATA)
		return handle_data(stream, frame, err);
	if (frame->type == FRAME_STREAM_CREDIT)
		return handle_credit(stream, frame, err);
	return handle_close(stream, frame, err);
}

void link_streams_break(struct link *link, const char *message)
{
	AUTO(json_decref)
	json_t *result =
		json_pack("{s:{s:i, s:s}}", "error", "code", EHOSTDOWN, "message", message);

	while (link->streams) {
		struct link_stream *stream = link->streams;

		stream->ops->closed(stream, result, stream->user);
		forget(stream);
	}
}
