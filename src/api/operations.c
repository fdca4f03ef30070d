/*
 * Waiting for operations, and cancelling them.
 */
#include <errno.h>

#include "api/api_internal.h"
#include "api/handlers.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"

enum { WAIT_S = 60, WAIT_MAX_S = 3600 };

struct waiting {
	struct request *req;
	struct control_wait *wait;
	sd_event_source *timer;
};

static void waiting_free(void *state)
{
	struct waiting *waiting = state;

	control_wait_free(waiting->wait);
	sd_event_source_disable_unref(waiting->timer);
	free(waiting);
}

static void answer(struct request *req, const json_t *operation)
{
	const json_t *meta = json_object_get(operation, "meta");
	struct error err = {};

	if (operation) {
		request_answer(req, json_incref((json_t *) operation),
			       json_integer_value(json_object_get(meta, "revision")));
		return;
	}
	error_say(&err, -ENOENT, "operation %s: it is not kept any more", request_arg(req, 0));
	request_answer_error(req, -ENOENT, &err, NULL);
}

static void on_ready(const json_t *operation, void *data)
{
	struct waiting *waiting = data;

	answer(waiting->req, operation);
}

/* The time is over or the client has hung up: the operation as it is now. */
static void on_give_up(struct request *req, void *state)
{
	AUTO(json_decref) json_t *operation = NULL;

	(void) state;
	control_get(request_api(req)->control, KIND_OPERATION, request_project(req),
		    request_arg(req, 0), &operation, NULL);
	answer(req, operation);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct waiting *waiting = data;

	(void) source;
	(void) usec;
	on_give_up(waiting->req, waiting);
	return 0;
}

int operation_await(struct request *req, struct error *err)
{
	const char *id = request_arg(req, 0);
	struct waiting *waiting;
	int64_t timeout_s = WAIT_S, revision = 0;
	int r = request_query_int(req, "timeout_s", 0, WAIT_MAX_S, &timeout_s, err);

	if (r == 0)
		r = request_query_int(req, "revision", 0, INT64_MAX, &revision, err);
	if (r < 0)
		return r;
	waiting = mem_new0(struct waiting);
	waiting->req = req;
	request_keep(req, waiting, waiting_free);
	r = control_operation_wait(request_api(req)->control, request_project(req), id,
				   (uint64_t) revision, on_ready, waiting, &waiting->wait, err);
	if (r < 0) {
		reply_error(req, r, err, KIND_OPERATION, id);
		return 0;
	}
	r = sd_event_add_time_relative(request_event(req), &waiting->timer, CLOCK_MONOTONIC,
				       (uint64_t) timeout_s * 1000000, 1000, on_timer, waiting);
	if (r < 0)
		return error_set(err, r, "timer");
	request_wait(req, on_give_up);
	return 0;
}

int operation_cancel(struct request *req, struct error *err)
{
	const char *id = request_arg(req, 0);

	(void) err;
	control_operation_cancel(request_api(req)->control, request_project(req), id, reply_done,
				 reply_new(req, KIND_OPERATION, id));
	return 0;
}
