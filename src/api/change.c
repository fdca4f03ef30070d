#include "api/change.h"

#include "api/api_internal.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/json.h"

int change_read(struct request *req, json_t **ret_body, uint64_t *ret_revision, struct error *err)
{
	int64_t revision = 0;
	int r = request_if_match(req, &revision, err);

	if (r == 0)
		r = request_json(req, ret_body, err);
	*ret_revision = (uint64_t) revision;
	return r;
}

int change_patch(struct request *req, enum kind kind, change_patch_fn patch, struct error *err)
{
	const char *name = request_arg(req, 0);
	AUTO(json_decref) json_t *body = NULL;
	uint64_t revision;
	int r = change_read(req, &body, &revision, err);

	if (r < 0)
		return r;
	patch(request_api(req)->control, request_project(req), name, body, revision, reply_done,
	      reply_new(req, kind, name));
	return 0;
}

int change_delete(struct request *req, enum kind kind, change_delete_fn delete, struct error *err)
{
	const char *name = request_arg(req, 0);
	int64_t revision = 0;
	int r = request_if_match(req, &revision, err);

	if (r < 0)
		return r;
	delete (request_api(req)->control, request_project(req), name, (uint64_t) revision,
		reply_done, reply_new(req, kind, name));
	return 0;
}
