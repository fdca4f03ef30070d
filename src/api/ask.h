#pragma once
/*
 * api/ask.h - a GET that the node's agent answers with one JSON document over a stream.
 *
 * Used by the handlers of usage and processes.  The answer is bounded; a client that hangs up ends
 * the stream.  Thread: the loop's.
 */
#include "control/control.h"

struct error;
struct request;

/* The route_fn contract.  `arguments` is borrowed. */
int ask_agent(struct request *req, const json_t *arguments, struct error *err);

/*
 * The same, when the answer is not only passed on: `finish` takes it over and returns what the
 * client gets, or NULL with words.  `data` is taken over, too.
 */
struct ask_finish {
	json_t *(*finish)(json_t *answer, void *data, struct error *err);
	void (*free)(void *data);
	void *data;
};
int ask_agent_then(struct request *req, const json_t *arguments, const struct ask_finish *then,
		   struct error *err);

/*
 * Where the instance of the request's first path variable is; it must run or be paused.  1 when the
 * request was answered with an error instead.
 */
int ask_locate_running(struct request *req, struct control_location *ret, struct error *err);
