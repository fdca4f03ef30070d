/*
 * What instances have carried in all their life: the sums that the node keeps.
 */
#include <errno.h>

#include "api/api_internal.h"
#include "api/ask.h"
#include "api/handlers.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/error.h"
#include "base/json.h"

/* 1 when the request was answered with an error. */
static int find_instance(struct request *req, const char *name, json_t *arguments,
			 struct error *err)
{
	struct control_location location;
	int r = control_locate(request_api(req)->control, KIND_INSTANCE, request_project(req), name,
			       &location, err);

	if (r < 0) {
		reply_error(req, r, err, KIND_INSTANCE, name);
		return 1;
	}
	json_object_set_new(arguments, "uids", json_pack("[s]", location.uid));
	return 0;
}

static int find_network(struct request *req, const char *name, json_t *arguments, struct error *err)
{
	AUTO(json_decref) json_t *network = NULL;
	int r = control_get(request_api(req)->control, KIND_NETWORK, request_project(req), name,
			    &network, err);

	if (r < 0) {
		reply_error(req, r, err, KIND_NETWORK, name);
		return 1;
	}
	json_object_set(arguments, "network_uid",
			json_object_get(json_object_get(network, "meta"), "uid"));
	return 0;
}

int usage_show(struct request *req, struct error *err)
{
	const char *instance = request_query(req, "instance");
	const char *network = request_query(req, "network");
	AUTO(json_decref)
	json_t *arguments =
		json_pack("{s:s, s:s}", "kind", "usage", "project", request_project(req));
	int r = 0;

	if (instance)
		r = find_instance(req, instance, arguments, err);
	if (r == 0 && network)
		r = find_network(req, network, arguments, err);
	if (r != 0)
		return r < 0 ? r : 0;
	return ask_agent(req, arguments, err);
}
