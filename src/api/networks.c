/*
 * What changes networks.
 */
#include "api/api_internal.h"
#include "api/change.h"
#include "api/handlers.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/json.h"

int network_create(struct request *req, struct error *err)
{
	AUTO(network_request_free) struct network_request *request = NULL;
	AUTO(json_decref) json_t *body = NULL;
	int r = request_json(req, &body, err);

	if (r == 0)
		r = network_request_decode(body, &request, err);
	if (r < 0)
		return r;
	control_network_create(request_api(req)->control, request_project(req), request, reply_done,
			       reply_new(req, KIND_NETWORK, NULL));
	return 0;
}

int network_update(struct request *req, struct error *err)
{
	return change_patch(req, KIND_NETWORK, control_network_update, err);
}

int network_delete(struct request *req, struct error *err)
{
	return change_delete(req, KIND_NETWORK, control_network_delete, err);
}
