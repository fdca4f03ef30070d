/*
 * The way of one packet from an instance: what the resources say.
 */
#include <errno.h>

#include "api/api_internal.h"
#include "api/handlers.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/json.h"
#include "control/control.h"
#include "model/trace.h"

int instance_trace(struct request *req, struct error *err)
{
	struct control *control = request_api(req)->control;
	const char *name = request_arg(req, 0);
	struct control_location location;
	AUTO(trace_request_free) struct trace_request *request = NULL;
	AUTO(trace_done) struct trace trace = {};
	AUTO(json_decref) json_t *body = NULL;
	int r = request_json(req, &body, err);

	if (r == 0)
		r = trace_request_decode(body, &request, err);
	if (r < 0)
		return r;
	r = control_locate(control, KIND_INSTANCE, request_project(req), name, &location, err);
	if (r < 0) {
		reply_error(req, r, err, KIND_INSTANCE, name);
		return 0;
	}
	r = control_trace(control, request_project(req), name, request, &trace, err);
	if (r == 0)
		request_answer(req, trace_encode(&trace), 0);
	return r;
}
