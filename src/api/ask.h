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
 * Where the instance of the request's first path variable is; it must run or be paused.  1 when the
 * request was answered with an error instead.
 */
int ask_locate_running(struct request *req, struct control_location *ret, struct error *err);
