/*
 * /1.0/instances/{name}/files?path=: files of an instance out of it and into it, as tar.
 *
 * GET answers with a tar and says in a header what the path is; HEAD, or ?stat=1, only says that.
 * PUT unpacks a tar below the folder; the answer comes when the instance has it all.  And what of
 * its files differs from the image: /1.0/instances/{name}/changes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "api/download.h"
#include "api/handlers.h"
#include "api/link.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"

enum { PATH_MAX_BYTES = 4095 };

#define STAT_HEADER "X-Brume-File-Stat"

/* The stream's arguments; *ret stays NULL when an error was answered. */
static int make_arguments(struct request *req, const char *action, json_t **ret, struct error *err)
{
	const char *path = request_query(req, "path"), *name = request_arg(req, 0);
	struct control_location location;
	bool follow = false, keep_ids = false;
	int r = request_query_bool(req, "follow", &follow, err);

	if (r == 0)
		r = request_query_bool(req, "keep_ids", &keep_ids, err);
	if (r < 0)
		return r;
	if (!path || path[0] != '/' || strlen(path) > PATH_MAX_BYTES)
		return error_say(err, -EINVAL,
				 "?path=: must be absolute and at most %d bytes, like /etc",
				 PATH_MAX_BYTES);
	r = control_locate(request_api(req)->control, KIND_INSTANCE, request_project(req), name,
			   &location, err);
	if (r < 0) {
		reply_error(req, r, err, KIND_INSTANCE, name);
		return 0;
	}
	*ret = json_pack("{s:s, s:s, s:s, s:s, s:b, s:b}", "kind", "files", "uid", location.uid,
			 "action", action, "path", path, "follow", follow, "keep_ids", keep_ids);
	return *ret ? 0 : error_say(err, -EINVAL, "?path=: is not valid UTF-8");
}

int instance_file_stat(struct request *req, struct error *err)
{
	static const struct download download = { .line_header = STAT_HEADER, .line_only = true };
	AUTO(json_decref) json_t *arguments = NULL;
	int r = make_arguments(req, "stat", &arguments, err);

	return r < 0 || !arguments ? r : download_start(req, arguments, &download, err);
}

int instance_files_get(struct request *req, struct error *err)
{
	static const struct download download = { .content_type = "application/x-tar",
						  .line_header = STAT_HEADER };
	AUTO(json_decref) json_t *arguments = NULL;
	int r;

	if (request_is_head(req))
		return instance_file_stat(req, err);
	r = make_arguments(req, "get", &arguments, err);
	return r < 0 || !arguments ? r : download_start(req, arguments, &download, err);
}

int instance_changes(struct request *req, struct error *err)
{
	static const struct download download = { .content_type = "application/json" };
	const char *name = request_arg(req, 0);
	struct control_location location;
	AUTO(json_decref) json_t *arguments = NULL;
	int r = control_locate(request_api(req)->control, KIND_INSTANCE, request_project(req), name,
			       &location, err);

	if (r < 0) {
		reply_error(req, r, err, KIND_INSTANCE, name);
		return 0;
	}
	arguments = json_pack("{s:s, s:s}", "kind", "changes", "uid", location.uid);
	return download_start(req, arguments, &download, err);
}

/* -- in --------------------------------------------------------------------------------------- */

struct upload {
	struct request *req;
	struct link_stream *stream; /* NULL: it has ended */
	bool full;                  /* it takes nothing now */
};

static void upload_free(void *state)
{
	struct upload *upload = state;

	link_stream_close(upload->stream, "the client has gone");
	free(upload);
}

static void on_drained(struct link_stream *stream, void *user)
{
	struct upload *upload = user;

	(void) stream;
	upload->full = false;
	request_upload_ready(upload->req);
}

static void on_closed(struct link_stream *stream, const json_t *result, void *user)
{
	struct upload *upload = user;
	const json_t *error = json_object_get(result, "error");

	(void) stream;
	upload->stream = NULL;
	if (error)
		reply_stream_error(upload->req, error);
	else
		request_answer(upload->req, json_object(), 0);
	request_upload_ready(upload->req);
}

static size_t on_body(struct request *req, const char *data, size_t size, void *state)
{
	struct upload *upload = state;

	(void) req;
	if (!upload->stream)
		return size;
	if (upload->full)
		return 0;
	upload->full = link_stream_write(upload->stream, FRAME_CHANNEL_IN, data, size) == 1;
	return size;
}

static void on_body_end(struct request *req, void *state)
{
	struct upload *upload = state;
	AUTO(json_decref) json_t *eof = json_pack("{s:b}", "eof", 1);

	request_wait(req, NULL);
	if (upload->stream)
		link_stream_control(upload->stream, eof);
}

int instance_files_put(struct request *req, struct error *err)
{
	static const struct link_stream_ops ops = { .drained = on_drained, .closed = on_closed };
	AUTO(json_decref) json_t *arguments = NULL;
	struct upload *upload;
	int r = make_arguments(req, "put", &arguments, err);

	if (r < 0 || !arguments)
		return r;
	upload = mem_new0(struct upload);
	upload->req = req;
	request_keep(req, upload, upload_free);
	request_upload(req, on_body, on_body_end);
	return link_stream_open(request_api(req)->link, arguments, &ops, upload, &upload->stream,
				err);
}
