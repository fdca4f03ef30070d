/*
 * What changes images, but for the streams of import.c and export.c.  Images are named by
 * references that people write in many ways: control/ says which resource is meant.
 */
#include "api/api_internal.h"
#include "api/handlers.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/json.h"
#include "codec/image_change.h"

int image_show(struct request *req, struct error *err)
{
	struct control *control = request_api(req)->control;
	const char *project = request_project(req);
	AUTO(free) char *name = NULL;
	json_t *image = NULL;
	int r = control_image_name(control, project, request_arg(req, 0), &name, err);

	if (r < 0)
		return r;
	r = control_get(control, KIND_IMAGE, project, name, &image, err);
	if (r < 0) {
		reply_error(req, r, err, KIND_IMAGE, name);
		return 0;
	}
	json_t *meta = json_object_get(image, "meta");
	request_answer(req, image, json_integer_value(json_object_get(meta, "revision")));
	return 0;
}

static int image_commit(struct request *req, const json_t *body, struct error *err)
{
	AUTO(commit_request_free) struct commit_request *request = NULL;
	int r = commit_request_decode(body, &request, err);

	if (r == 0)
		r = image_changes_check(request->changes, err);
	if (r < 0)
		return r;
	control_image_commit(request_api(req)->control, request_project(req), request, reply_done,
			     reply_new(req, KIND_INSTANCE, request->instance));
	return 0;
}

int image_pull(struct request *req, struct error *err)
{
	AUTO(pull_request_free) struct pull_request *request = NULL;
	AUTO(json_decref) json_t *body = NULL;
	int r = request_json(req, &body, err);

	if (r == 0 && commit_request_is(body))
		return image_commit(req, body, err);
	if (r == 0)
		r = pull_request_decode(body, &request, err);
	if (r < 0)
		return r;
	control_image_pull(request_api(req)->control, request_project(req), request, reply_done,
			   reply_new(req, KIND_IMAGE, NULL));
	return 0;
}

int image_delete(struct request *req, struct error *err)
{
	struct control *control = request_api(req)->control;
	const char *project = request_project(req);
	AUTO(free) char *name = NULL;
	int64_t revision = 0;
	int r = request_if_match(req, &revision, err);

	if (r == 0)
		r = control_image_name(control, project, request_arg(req, 0), &name, err);
	if (r < 0)
		return r;
	control_image_delete(control, project, name, (uint64_t) revision, reply_done,
			     reply_new(req, KIND_IMAGE, name));
	return 0;
}

int images_prune(struct request *req, struct error *err)
{
	(void) err;
	control_image_prune(request_api(req)->control, request_project(req), reply_done,
			    reply_new(req, KIND_IMAGE, NULL));
	return 0;
}
