/*
 * POST /1.0/images?import=1&name=N: a tar, or the image of a disk, on its way to the agent.
 *
 * The resource is made first, then a stream to it is opened, then the body is read as fast as the
 * agent takes it: brumed never holds more than one window.  The answer comes when the body is in;
 * what the agent makes of it is the operation's story.
 */
#include <errno.h>
#include <stdlib.h>

#include "api/api_internal.h"
#include "api/handlers.h"
#include "api/link.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "codec/oci_platform.h"
#include "model/image.h"

/*
 * Lives as long as anybody who refers to it: the request, the control that was asked, the stream.
 */
struct upload {
	struct api *api;
	struct request *req; /* NULL: the client has gone or has its answer */
	char *project;
	json_t *operation;
	struct link_stream *stream;
	bool asked;    /* control has not answered yet */
	bool complete; /* the whole body has been given to the stream */
	bool full;     /* the stream takes nothing now */
	bool closed;   /* the agent has ended the stream, it had enough */
};

static void upload_release(struct upload *upload)
{
	if (upload->req || upload->asked || upload->stream)
		return;
	json_decref(upload->operation);
	free(upload->project);
	free(upload);
}

/* The request ends: with its answer, or because the client has gone. */
static void on_request_end(void *state)
{
	struct upload *upload = state;

	upload->req = NULL;
	if (!upload->complete)
		link_stream_close(TAKE_PTR(upload->stream), "the client has gone");
	upload_release(upload);
}

static void answer_operation(struct upload *upload)
{
	request_answer_async(upload->req, json_incref(upload->operation));
}

/* -- the stream ------------------------------------------------------------------------------- */

static void on_stream_drained(struct link_stream *stream, void *user)
{
	struct upload *upload = user;

	(void) stream;
	upload->full = false;
	if (!upload->req)
		return;
	if (upload->complete)
		answer_operation(upload);
	else
		request_upload_ready(upload->req);
}

static void on_stream_closed(struct link_stream *stream, const json_t *result, void *user)
{
	struct upload *upload = user;
	const json_t *error = json_object_get(result, "error");

	(void) stream;
	upload->stream = NULL;
	upload->closed = true;
	if (upload->req) {
		if (error)
			reply_stream_error(upload->req, error);
		else if (upload->complete)
			answer_operation(upload);
		request_upload_ready(upload->req);
	}
	upload_release(upload);
}

/* -- the request ------------------------------------------------------------------------------ */

static size_t on_body(struct request *req, const char *data, size_t size, void *state)
{
	struct upload *upload = state;

	(void) req;
	if (upload->closed)
		return size;
	if (!upload->stream || upload->full)
		return 0;
	upload->full = link_stream_write(upload->stream, FRAME_CHANNEL_IN, data, size) == 1;
	return size;
}

static void on_body_end(struct request *req, void *state)
{
	struct upload *upload = state;
	AUTO(json_decref) json_t *eof = json_pack("{s:b}", "eof", 1);

	upload->complete = true;
	request_wait(req, NULL);
	if (upload->stream && link_stream_control(upload->stream, eof) == 1)
		upload->full = true;
	else if (upload->stream || upload->closed)
		answer_operation(upload);
}

static int open_stream(struct upload *upload, struct error *err)
{
	static const struct link_stream_ops ops = { .drained = on_stream_drained,
						    .closed = on_stream_closed };
	const json_t *spec = json_object_get(upload->operation, "spec");
	const json_t *target = json_object_get(spec, "target");
	const char *name = json_string_value(json_object_get(target, "name"));
	AUTO(json_decref) json_t *arguments = NULL;
	struct control_location location;
	int r = control_locate(upload->api->control, KIND_IMAGE, upload->project, name ? name : "",
			       &location, err);

	if (r < 0)
		return r;
	arguments = json_pack("{s:s, s:s}", "kind", "import", "uid", location.uid);
	return link_stream_open(upload->api->link, arguments, &ops, upload, &upload->stream, err);
}

static void on_cancelled(int result, const struct error *err, const json_t *operation, void *data)
{
	(void) operation;
	(void) data;
	if (result < 0)
		log_warning("import without a stream is not cancelled: %s", err ? err->msg : "");
}

/* The image's resource is there, but no bytes will come. */
static void cancel(struct upload *upload)
{
	const json_t *meta = json_object_get(upload->operation, "meta");
	const char *id = json_string_value(json_object_get(meta, "name"));

	control_operation_cancel(upload->api->control, upload->project, id ? id : "", on_cancelled,
				 NULL);
}

static void on_created(int result, const struct error *err, const json_t *operation, void *data)
{
	struct upload *upload = data;
	struct error stream_err = {};
	int r = result;

	upload->asked = false;
	if (r < 0) {
		if (upload->req)
			request_answer_error(upload->req, r, err, NULL);
	} else {
		upload->operation = json_incref((json_t *) operation);
		r = upload->req ? open_stream(upload, &stream_err) : -ECANCELED;
		if (r < 0)
			cancel(upload);
		if (r < 0 && upload->req)
			request_answer_error(upload->req, r, &stream_err, NULL);
	}
	if (upload->req && upload->complete && upload->stream)
		on_body_end(upload->req, upload);
	if (upload->req)
		request_upload_ready(upload->req);
	upload_release(upload);
}

int image_import(struct request *req, struct error *err)
{
	const struct image_import_request import = { .name = request_query(req, "name"),
						     .platform = request_query(req, "platform"),
						     .format = request_query(req, "format") };
	struct upload *upload;
	int r;

	if (!import.name || !import.name[0])
		return error_say(err, -EINVAL, "?name=: an imported image needs a name");
	if (import.format && !image_format_is_valid(import.format))
		return error_say(err, -EINVAL, "?format=%.40s: there are raw and qcow2",
				 import.format);
	r = import.platform ? oci_platform_check(import.platform, err) : 0;
	if (r < 0)
		return error_wrap(err, r, "?platform=");
	upload = mem_new0(struct upload);
	upload->api = request_api(req);
	upload->req = req;
	upload->project = mem_strdup(request_project(req));
	upload->asked = true;
	request_keep(req, upload, on_request_end);
	request_upload(req, on_body, on_body_end);
	control_image_import(upload->api->control, upload->project, &import, on_created, upload);
	return 0;
}
