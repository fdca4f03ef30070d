/*
 * GET /1.0/images/{name}/export: the agent's tar, as it comes.
 *
 * The first bytes decide: until they are there an error is a proper answer, afterwards it can only
 * cut the body short.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "api/handlers.h"
#include "api/link.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"

struct exporting {
	struct request *req;
	struct link_stream *stream;
	struct strbuf bytes; /* at most the stream's window */
	size_t used;
	bool answered;
	int ended; /* 0, REQUEST_BODY_END or REQUEST_BODY_BROKEN */
};

static void exporting_free(void *state)
{
	struct exporting *exporting = state;

	link_stream_close(exporting->stream, "the client has gone");
	strbuf_done(&exporting->bytes);
	free(exporting);
}

static ssize_t on_read(struct request *req, char *data, size_t size, void *state)
{
	struct exporting *exporting = state;
	size_t room = exporting->bytes.size - exporting->used;
	size_t n = room < size ? room : size;

	(void) req;
	if (n == 0)
		return exporting->ended;
	memcpy(data, exporting->bytes.data + exporting->used, n);
	exporting->used += n;
	if (exporting->used == exporting->bytes.size) {
		exporting->bytes.size = 0;
		exporting->used = 0;
	}
	if (exporting->stream)
		link_stream_consumed(exporting->stream, n);
	return (ssize_t) n;
}

static void begin(struct exporting *exporting)
{
	if (exporting->answered) {
		request_body_ready(exporting->req);
		return;
	}
	exporting->answered = true;
	request_answer_body(exporting->req, "application/x-tar", on_read, exporting);
}

static void on_data(struct link_stream *stream, enum frame_channel channel, const char *data,
		    size_t size, void *user)
{
	struct exporting *exporting = user;

	(void) stream;
	if (channel != FRAME_CHANNEL_OUT || size == 0)
		return;
	strbuf_append(&exporting->bytes, data, size);
	begin(exporting);
}

static void on_closed(struct link_stream *stream, const json_t *result, void *user)
{
	struct exporting *exporting = user;
	const json_t *error = json_object_get(result, "error");

	(void) stream;
	exporting->stream = NULL;
	exporting->ended = error ? REQUEST_BODY_BROKEN : REQUEST_BODY_END;
	if (error && !exporting->answered) {
		exporting->answered = true;
		reply_stream_error(exporting->req, error);
	} else {
		begin(exporting);
	}
}

int image_export(struct request *req, struct error *err)
{
	static const struct link_stream_ops ops = { .data = on_data, .closed = on_closed };
	struct api *api = request_api(req);
	struct control_location location;
	AUTO(json_decref) json_t *arguments = NULL;
	AUTO(free) char *name = NULL;
	struct exporting *exporting;
	int r = control_image_name(api->control, request_project(req), request_arg(req, 0), &name,
				   err);

	if (r < 0)
		return r;
	r = control_locate(api->control, KIND_IMAGE, request_project(req), name, &location, err);
	if (r < 0) {
		reply_error(req, r, err, KIND_IMAGE, name);
		return 0;
	}
	exporting = mem_new0(struct exporting);
	exporting->req = req;
	request_keep(req, exporting, exporting_free);
	arguments = json_pack("{s:s, s:s}", "kind", "export", "uid", location.uid);
	r = link_stream_open(api->link, arguments, &ops, exporting, &exporting->stream, err);
	if (r < 0)
		return r;
	request_wait(req, NULL);
	return 0;
}
