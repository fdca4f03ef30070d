/*
 * The way of one packet from an instance: what the resources say, and what the node's kernel does.
 */
#include <stdlib.h>

#include "api/api_internal.h"
#include "api/ask.h"
#include "api/handlers.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/json.h"
#include "base/mem.h"
#include "control/control.h"
#include "model/trace_live.h"

static void trace_free(void *data)
{
	trace_done(data);
	free(data);
}

/* What the kernel did, beside what was expected. */
static json_t *finish(json_t *answer, void *data, struct error *err)
{
	const struct trace *trace = data;
	json_t *metadata;

	if (trace_live_judge(trace, answer, err) < 0) {
		json_decref(answer);
		return NULL;
	}
	metadata = trace_encode(trace);
	json_object_set_new(metadata, "live", answer);
	return metadata;
}

/* Takes over what is in `trace`. */
static int reply_trace(struct request *req, const char *uid, bool live, struct trace *trace,
		       struct error *err)
{
	AUTO(json_decref)
	json_t *question = live ? trace_live_question(trace, uid) : NULL;
	struct ask_finish then = { .finish = finish, .free = trace_free };
	struct trace *kept;

	if (!question) {
		request_answer(req, trace_encode(trace), 0);
		return 0;
	}
	kept = mem_new0(struct trace);
	*kept = *trace;
	*trace = (struct trace){};
	then.data = kept;
	return ask_agent_then(req, question, &then, err);
}

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
	return r < 0 ? r : reply_trace(req, location.uid, request->live, &trace, err);
}
