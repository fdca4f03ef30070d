/*
 * GET /1.0/images/{name}/export: the agent's tar, as it comes.
 */
#include "api/api_internal.h"
#include "api/download.h"
#include "api/handlers.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/json.h"

int image_export(struct request *req, struct error *err)
{
	static const struct download download = { .content_type = "application/x-tar" };
	struct api *api = request_api(req);
	struct control_location location;
	AUTO(json_decref) json_t *arguments = NULL;
	AUTO(free) char *name = NULL;
	int r = control_image_name(api->control, request_project(req), request_arg(req, 0), &name,
				   err);

	if (r < 0)
		return r;
	r = control_locate(api->control, KIND_IMAGE, request_project(req), name, &location, err);
	if (r < 0) {
		reply_error(req, r, err, KIND_IMAGE, name);
		return 0;
	}
	arguments = json_pack("{s:s, s:s}", "kind", "export", "uid", location.uid);
	return download_start(req, arguments, &download, err);
}
