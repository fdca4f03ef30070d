/*
 * What changes routers.
 */
#include "api/api_internal.h"
#include "api/handlers.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/json.h"
#include "model/router.h"

int router_create(struct request *req, struct error *err)
{
	AUTO(router_free) struct router *router = NULL;
	AUTO(json_decref) json_t *body = NULL;
	int r = request_json(req, &body, err);

	if (r == 0)
		r = router_request_decode(body, &router, err);
	if (r < 0)
		return r;
	control_router_create(request_api(req)->control, request_project(req), router->meta.name,
			      body, request_is_root(req), reply_done,
			      reply_new(req, KIND_ROUTER, NULL));
	return 0;
}

int router_update(struct request *req, struct error *err)
{
	const char *name = request_arg(req, 0);
	AUTO(json_decref) json_t *patch = NULL;
	int64_t revision = 0;
	int r = request_if_match(req, &revision, err);

	if (r == 0)
		r = request_json(req, &patch, err);
	if (r < 0)
		return r;
	control_router_update(request_api(req)->control, request_project(req), name, patch,
			      request_is_root(req), (uint64_t) revision, reply_done,
			      reply_new(req, KIND_ROUTER, name));
	return 0;
}

int router_delete(struct request *req, struct error *err)
{
	const char *name = request_arg(req, 0);
	int64_t revision = 0;
	int r = request_if_match(req, &revision, err);

	if (r < 0)
		return r;
	control_router_delete(request_api(req)->control, request_project(req), name,
			      (uint64_t) revision, reply_done, reply_new(req, KIND_ROUTER, name));
	return 0;
}
