/*
 * Listing and showing: the same for every kind of resource.
 */
#include <errno.h>

#include "api/api_internal.h"
#include "api/handlers.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/error.h"
#include "base/json.h"
#include "base/strbuf.h"

static int list(struct request *req, enum kind kind, struct error *err)
{
	struct control *control = request_api(req)->control;
	AUTO(strbuf_done) struct strbuf document = {};
	json_t *names = NULL;
	bool full = false;
	int r = request_query_bool(req, "recursion", &full, err);

	if (r < 0)
		return r;
	if (!full) {
		r = control_list(control, kind, request_project(req), false, &names, err);
		if (r == 0)
			request_answer(req, names, (int64_t) control_revision(control));
		return r;
	}
	strbuf_puts(&document, "{\"type\":\"sync\",\"metadata\":");
	r = control_list_text(control, kind, request_project(req), &document, err);
	if (r < 0)
		return r;
	strbuf_puts(&document, "}");
	request_answer_text(req, &document, (int64_t) control_revision(control));
	return 0;
}

static int show(struct request *req, enum kind kind, struct error *err)
{
	struct control *control = request_api(req)->control;
	json_t *resource = NULL;
	int r = control_get(control, kind, request_project(req), request_arg(req, 0), &resource,
			    err);

	if (r < 0) {
		reply_error(req, r, err, kind, request_arg(req, 0));
		return 0;
	}
	json_t *meta = json_object_get(resource, "meta");
	request_answer(req, resource, json_integer_value(json_object_get(meta, "revision")));
	return 0;
}

int instances_list(struct request *req, struct error *err)
{
	return list(req, KIND_INSTANCE, err);
}

int instance_show(struct request *req, struct error *err)
{
	return show(req, KIND_INSTANCE, err);
}

int images_list(struct request *req, struct error *err)
{
	return list(req, KIND_IMAGE, err);
}

int networks_list(struct request *req, struct error *err)
{
	return list(req, KIND_NETWORK, err);
}

int network_show(struct request *req, struct error *err)
{
	return show(req, KIND_NETWORK, err);
}

int balancers_list(struct request *req, struct error *err)
{
	return list(req, KIND_BALANCER, err);
}

int balancer_show(struct request *req, struct error *err)
{
	return show(req, KIND_BALANCER, err);
}

int groups_list(struct request *req, struct error *err)
{
	return list(req, KIND_GROUP, err);
}

int group_show(struct request *req, struct error *err)
{
	return show(req, KIND_GROUP, err);
}

int routers_list(struct request *req, struct error *err)
{
	return list(req, KIND_ROUTER, err);
}

int router_show(struct request *req, struct error *err)
{
	return show(req, KIND_ROUTER, err);
}

int operations_list(struct request *req, struct error *err)
{
	return list(req, KIND_OPERATION, err);
}

int operation_show(struct request *req, struct error *err)
{
	return show(req, KIND_OPERATION, err);
}

int projects_list(struct request *req, struct error *err)
{
	return list(req, KIND_PROJECT, err);
}

int project_show(struct request *req, struct error *err)
{
	return show(req, KIND_PROJECT, err);
}

int nodes_list(struct request *req, struct error *err)
{
	return list(req, KIND_NODE, err);
}

int node_show(struct request *req, struct error *err)
{
	return show(req, KIND_NODE, err);
}
