/*
 * What changes load balancers.
 */
#include "api/api_internal.h"
#include "api/change.h"
#include "api/handlers.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/json.h"

int balancer_create(struct request *req, struct error *err)
{
	AUTO(balancer_request_free) struct balancer_request *request = NULL;
	AUTO(json_decref) json_t *body = NULL;
	int r = request_json(req, &body, err);

	if (r == 0)
		r = balancer_request_decode(body, &request, err);
	if (r < 0)
		return r;
	control_balancer_create(request_api(req)->control, request_project(req), request,
				reply_done, reply_new(req, KIND_BALANCER, NULL));
	return 0;
}

int balancer_update(struct request *req, struct error *err)
{
	return change_patch(req, KIND_BALANCER, control_balancer_update, err);
}

int balancer_member_set(struct request *req, struct error *err)
{
	const char *name = request_arg(req, 0), *instance = request_arg(req, 1);
	AUTO(json_decref) json_t *body = NULL;
	uint64_t revision;
	bool drain = false;
	int r = change_read(req, &body, &revision, err);

	if (r == 0)
		r = balancer_member_request_decode(body, &drain, err);
	if (r < 0)
		return r;
	control_balancer_drain(request_api(req)->control, request_project(req), name, instance,
			       drain, revision, reply_done, reply_new(req, KIND_BALANCER, name));
	return 0;
}

int balancer_delete(struct request *req, struct error *err)
{
	return change_delete(req, KIND_BALANCER, control_balancer_delete, err);
}
