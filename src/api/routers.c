/*
 * What changes routers.
 */
#include "api/api_internal.h"
#include "api/change.h"
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
	uint64_t revision;
	int r = change_read(req, &patch, &revision, err);

	if (r < 0)
		return r;
	control_router_update(request_api(req)->control, request_project(req), name, patch,
			      request_is_root(req), revision, reply_done,
			      reply_new(req, KIND_ROUTER, name));
	return 0;
}

int router_delete(struct request *req, struct error *err)
{
	return change_delete(req, KIND_ROUTER, control_router_delete, err);
}
