/*
 * What changes instances.
 */
#include <errno.h>

#include "api/api_internal.h"
#include "api/change.h"
#include "api/handlers.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/json.h"

/* What was misspelt, if something was: the instance, or the network (NULL: that is not asked). */
static struct reply *reply_of_port(struct request *req, const char *name, const char *network)
{
	struct control_location place;
	bool there = control_locate(request_api(req)->control, KIND_INSTANCE, request_project(req),
				    name, &place, NULL) != -ENOENT;

	return there ? reply_new(req, KIND_NETWORK, network) : reply_new(req, KIND_INSTANCE, name);
}

int instance_launch(struct request *req, struct error *err)
{
	AUTO(launch_request_free) struct launch_request *request = NULL;
	AUTO(json_decref) json_t *body = NULL;
	int r = request_json(req, &body, err);

	if (r == 0)
		r = launch_request_decode(body, &request, err);
	if (r < 0)
		return r;
	control_instance_launch(
		request_api(req)->control, request_project(req), request, reply_done,
		reply_new(req, KIND_NETWORK,
			  request->spec.port_count == 1 ? request->spec.ports[0].network : NULL));
	return 0;
}

int instance_act(struct request *req, struct error *err)
{
	const char *name = request_arg(req, 0);
	struct action_request request = {};
	AUTO(json_decref) json_t *body = NULL;
	uint64_t revision;
	int r = change_read(req, &body, &revision, err);

	if (r == 0)
		r = action_request_decode(body, &request, err);
	if (r < 0)
		return r;
	control_instance_action(request_api(req)->control, request_project(req), name, &request,
				(uint64_t) revision, reply_done,
				reply_new(req, KIND_INSTANCE, name));
	return 0;
}

int instance_delete(struct request *req, struct error *err)
{
	const char *name = request_arg(req, 0);
	int64_t revision = 0;
	bool force = false;
	int r = request_if_match(req, &revision, err);

	if (r == 0)
		r = request_query_bool(req, "force", &force, err);
	if (r < 0)
		return r;
	control_instance_delete(request_api(req)->control, request_project(req), name, force,
				(uint64_t) revision, reply_done,
				reply_new(req, KIND_INSTANCE, name));
	return 0;
}

int instance_rename(struct request *req, struct error *err)
{
	const char *name = request_arg(req, 0);
	AUTO(json_decref) json_t *body = NULL;
	AUTO(free) char *new_name = NULL;
	uint64_t revision;
	int r = change_read(req, &body, &revision, err);

	if (r == 0)
		r = rename_request_decode(body, &new_name, err);
	if (r < 0)
		return r;
	control_instance_rename(request_api(req)->control, request_project(req), name, new_name,
				(uint64_t) revision, reply_done,
				reply_new(req, KIND_INSTANCE, name));
	return 0;
}

int instance_update(struct request *req, struct error *err)
{
	return change_patch(req, KIND_INSTANCE, control_instance_update, err);
}

int instance_port_attach(struct request *req, struct error *err)
{
	const char *name = request_arg(req, 0);
	AUTO(json_decref) json_t *body = NULL;
	AUTO(port_done) struct port port = {};
	uint64_t revision;
	int r = change_read(req, &body, &revision, err);

	if (r == 0)
		r = port_request_decode(body, &port, err);
	if (r < 0)
		return r;
	control_port_attach(request_api(req)->control, request_project(req), name, &port,
			    (uint64_t) revision, reply_done,
			    reply_of_port(req, name, port.network));
	return 0;
}

int instance_port_detach(struct request *req, struct error *err)
{
	const char *name = request_arg(req, 0);
	int64_t revision = 0;
	int r = request_if_match(req, &revision, err);

	if (r < 0)
		return r;
	control_port_detach(request_api(req)->control, request_project(req), name,
			    request_arg(req, 1), (uint64_t) revision, reply_done,
			    reply_of_port(req, name, NULL));
	return 0;
}
