#include "api/download.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "api/link.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"

enum { LINE_MAX = 64 * 1024 };

struct downloading {
	struct download options;
	struct request *req;
	struct link_stream *stream;
	struct strbuf bytes; /* at most the stream's window */
	size_t used;
	json_t *line; /* of the beginning, when it has come */
	bool answered;
	int ended; /* 0, REQUEST_BODY_END or REQUEST_BODY_BROKEN */
};

static void downloading_free(void *state)
{
	struct downloading *downloading = state;

	link_stream_close(downloading->stream, "the client has gone");
	strbuf_done(&downloading->bytes);
	json_decref(downloading->line);
	free(downloading);
}

static ssize_t on_read(struct request *req, char *data, size_t size, void *state)
{
	struct downloading *downloading = state;
	size_t room = downloading->bytes.size - downloading->used;
	size_t n = room < size ? room : size;

	(void) req;
	if (n == 0)
		return downloading->ended;
	memcpy(data, downloading->bytes.data + downloading->used, n);
	downloading->used += n;
	if (downloading->used == downloading->bytes.size) {
		downloading->bytes.size = 0;
		downloading->used = 0;
	}
	if (downloading->stream)
		link_stream_consumed(downloading->stream, n);
	return (ssize_t) n;
}

static void fail(struct downloading *downloading, const char *words)
{
	struct error err;

	downloading->answered = true;
	error_say(&err, -EIO, "%s", words);
	request_answer_error(downloading->req, -EIO, &err, NULL);
}

/* The line at the beginning.  False: it has not come completely yet, or an error was answered. */
static bool take_line(struct downloading *downloading)
{
	struct strbuf *bytes = &downloading->bytes;
	const char *end = bytes->size > 0 ? memchr(bytes->data, '\n', bytes->size) : NULL;
	AUTO(free) char *text = NULL;
	size_t size;

	if (downloading->line || !downloading->options.line_header)
		return true;
	if (!end && bytes->size < LINE_MAX && !downloading->ended)
		return false;
	size = end ? (size_t) (end - bytes->data) : 0;
	if (!end || json_parse(bytes->data, size, LINE_MAX, &downloading->line, NULL) < 0) {
		fail(downloading, "the node's answer is not understood");
		return false;
	}
	strbuf_consume(bytes, size + 1);
	if (downloading->stream)
		link_stream_consumed(downloading->stream, size + 1);
	text = json_dumps(downloading->line, JSON_COMPACT | JSON_ENSURE_ASCII);
	request_set_header(downloading->req, downloading->options.line_header, text ? text : "");
	return true;
}

static void begin(struct downloading *downloading)
{
	if (downloading->answered) {
		request_body_ready(downloading->req);
		return;
	}
	if (!take_line(downloading))
		return;
	downloading->answered = true;
	if (downloading->options.line_only)
		request_answer(downloading->req, json_incref(downloading->line), 0);
	else
		request_answer_body(downloading->req, downloading->options.content_type, on_read,
				    downloading);
}

static void on_data(struct link_stream *stream, enum frame_channel channel, const char *data,
		    size_t size, void *user)
{
	struct downloading *downloading = user;

	(void) stream;
	if (channel != FRAME_CHANNEL_OUT || size == 0)
		return;
	strbuf_append(&downloading->bytes, data, size);
	begin(downloading);
}

static void on_closed(struct link_stream *stream, const json_t *result, void *user)
{
	struct downloading *downloading = user;
	const json_t *error = json_object_get(result, "error");

	(void) stream;
	downloading->stream = NULL;
	downloading->ended = error ? REQUEST_BODY_BROKEN : REQUEST_BODY_END;
	if (error && !downloading->answered) {
		downloading->answered = true;
		reply_stream_error(downloading->req, error);
	} else {
		begin(downloading);
	}
}

int download_start(struct request *req, const json_t *arguments, const struct download *download,
		   struct error *err)
{
	static const struct link_stream_ops ops = { .data = on_data, .closed = on_closed };
	struct downloading *downloading = mem_new0(struct downloading);
	int r;

	downloading->options = *download;
	downloading->req = req;
	request_keep(req, downloading, downloading_free);
	r = link_stream_open(request_api(req)->link, arguments, &ops, downloading,
			     &downloading->stream, err);
	if (r < 0)
		return r;
	request_wait(req, NULL);
	return 0;
}
