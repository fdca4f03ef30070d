#include "agent/stream.h"

#include <errno.h>
#include <string.h>
#include <uthash.h>

#include "agent/agent_internal.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"

enum { STREAMS_MAX = 1024, CHUNK_MAX = 64 * 1024 };

struct stream {
	UT_hash_handle hh;
	struct agent *agent;
	uint64_t id;
	const char *kind;             /* constant; set with `ops` */
	const struct stream_ops *ops; /* NULL: ended here, waiting for the peer's close */
	void *data;
	size_t send_credit;
	size_t receive_credit;
};

struct agent *stream_agent(const struct stream *stream)
{
	return stream->agent;
}

uint64_t stream_id(const struct stream *stream)
{
	return stream->id;
}

size_t stream_credit(const struct stream *stream)
{
	return stream->send_credit;
}

static void end(struct stream *stream)
{
	const struct stream_ops *stream_ops = stream->ops;

	stream->ops = NULL;
	if (stream_ops)
		stream_ops->free(stream->data);
	stream->data = NULL;
}

static void forget(struct stream *stream)
{
	end(stream);
	HASH_DEL(stream->agent->streams, stream);
	free(stream);
}

static struct stream *find(struct agent *agent, uint64_t id)
{
	struct stream *stream;

	HASH_FIND(hh, agent->streams, &id, sizeof(id), stream);
	return stream;
}

static void send_close(struct stream *stream, json_t *body)
{
	link_send_json(stream->agent->link, FRAME_STREAM_CLOSE, stream->id, body);
	json_decref(body);
}

void stream_close_code(struct stream *stream, int64_t exit_code)
{
	end(stream);
	send_close(stream, json_pack("{s:I}", "exit_code", (json_int_t) exit_code));
}

static json_t *error_body(const struct error *err)
{
	json_t *text = json_string(err->msg);

	/* A message may quote what a stranger wrote, cut in the middle of a character. */
	if (!text)
		text = json_string("the error's text is not valid UTF-8");
	return json_pack("{s:{s:i, s:o}}", "error", "code", -err->code, "message", text);
}

void stream_close_error(struct stream *stream, const struct error *err)
{
	json_t *body = error_body(err);

	end(stream);
	send_close(stream, body);
}

void stream_close_failure(struct stream *stream, const struct error *err, int64_t exit_code)
{
	json_t *body = error_body(err);

	json_object_set_new(body, "exit_code", json_integer(exit_code));
	end(stream);
	send_close(stream, body);
}

static int open_kind(struct stream *stream, const json_t *arguments, struct error *err)
{
	static const struct {
		const char *name;
		int (*open)(struct stream *, const json_t *, const struct stream_ops **, void **,
			    struct error *);
	} kinds[] = { { "exec", exec_open },       { "logs", logs_open },
		      { "attach", attach_open },   { "import", import_open },
		      { "export", export_open },   { "stats", stats_open },
		      { "top", top_open },         { "usage", usage_open_stream },
		      { "files", files_open },     { "changes", changes_open },
		      { "kernels", kernels_open }, { "trace", trace_open },
		      { "flows", flows_open } };
	const char *kind = json_string_value(json_object_get(arguments, "kind"));

	for (size_t i = 0; kind && i < ARRAY_COUNT(kinds); i++)
		if (strcmp(kinds[i].name, kind) == 0) {
			stream->kind = kinds[i].name;
			return kinds[i].open(stream, arguments, &stream->ops, &stream->data, err);
		}
	return error_say(err, -EINVAL,
			 "kind: must be exec, logs, attach, import, export, stats, top, usage, "
			 "files, changes, kernels, trace or flows");
}

void stream_open(struct agent *agent, uint64_t id, const json_t *arguments)
{
	struct stream *stream = find(agent, id);
	struct error err = {};

	if (stream) {
		log_error("stream %llu: opened twice, ending it", (unsigned long long) id);
		forget(stream);
	}
	stream = mem_new0(struct stream);
	stream->agent = agent;
	stream->id = id;
	stream->send_credit = stream->receive_credit = FRAME_CREDIT_INITIAL;
	HASH_ADD(hh, agent->streams, id, sizeof(stream->id), stream);
	if (HASH_COUNT(agent->streams) > STREAMS_MAX) {
		error_say(&err, -EBUSY, "too many streams are open, %d at most", STREAMS_MAX);
		stream_close_error(stream, &err);
	} else if (open_kind(stream, arguments, &err) < 0) {
		stream_close_error(stream, &err);
	}
}

int stream_received(struct agent *agent, uint64_t id, enum frame_channel channel, const char *data,
		    size_t size, struct error *err)
{
	struct stream *stream = find(agent, id);
	int r;

	/* What was on its way while the stream ended here. */
	if (!stream || !stream->ops)
		return 0;
	if (channel != FRAME_CHANNEL_CONTROL) {
		if (size > stream->receive_credit)
			return error_say(err, -EPROTO, "stream %llu: more data than it may send",
					 (unsigned long long) id);
		stream->receive_credit -= size;
	}
	struct error stream_err = {};
	if (stream->ops->received)
		r = stream->ops->received(stream->data, channel, data, size, &stream_err);
	else
		r = error_say(&stream_err, -EINVAL, "%s: takes no data", stream->kind);
	if (r < 0)
		stream_close_error(stream, &stream_err);
	return 0;
}

void stream_credited(struct agent *agent, uint64_t id, uint32_t bytes)
{
	struct stream *stream = find(agent, id);

	if (!stream || !stream->ops)
		return;
	stream->send_credit += bytes;
	if (stream->ops->writable)
		stream->ops->writable(stream->data);
}

void stream_peer_closed(struct agent *agent, uint64_t id)
{
	struct stream *stream = find(agent, id);

	if (!stream)
		return;
	if (stream->ops && stream->ops->left)
		stream->ops->left(stream->data);
	if (stream->ops)
		send_close(stream, json_pack("{s:i}", "exit_code", -1));
	forget(stream);
}

void stream_link_drained(struct agent *agent)
{
	struct stream *stream, *next;

	HASH_ITER(hh, agent->streams, stream, next)
	if (stream->ops && stream->ops->writable)
		stream->ops->writable(stream->data);
}

void stream_free_all(struct agent *agent)
{
	struct stream *stream, *next;

	HASH_ITER(hh, agent->streams, stream, next)
	forget(stream);
}

void stream_send(struct stream *stream, enum frame_channel channel, const void *data, size_t size)
{
	if (channel != FRAME_CHANNEL_CONTROL)
		stream->send_credit -= size > stream->send_credit ? stream->send_credit : size;
	link_send_data(stream->agent->link, stream->id, channel, data, size);
}

bool stream_send_text(struct stream *stream, enum frame_channel channel, struct strbuf *text)
{
	size_t sent = 0;

	while (sent < text->size && stream->send_credit > 0) {
		size_t n = text->size - sent;

		n = n > CHUNK_MAX ? (size_t) CHUNK_MAX : n;
		n = n > stream->send_credit ? stream->send_credit : n;
		stream_send(stream, channel, text->data + sent, n);
		sent += n;
	}
	strbuf_consume(text, sent);
	return text->size == 0;
}

void stream_grant(struct stream *stream, size_t bytes)
{
	if (bytes == 0)
		return;
	stream->receive_credit += bytes;
	link_send_credit(stream->agent->link, stream->id, (uint32_t) bytes);
}

void stream_each(struct agent *agent, const struct stream_ops *stream_ops,
		 void (*fn)(void *data, void *argument), void *argument)
{
	struct stream *stream, *next;

	/* `fn` may close the stream it is called for, which leaves it in the table. */
	HASH_ITER(hh, agent->streams, stream, next)
	if (stream->ops == stream_ops)
		fn(stream->data, argument);
}
