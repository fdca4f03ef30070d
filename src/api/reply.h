#pragma once
/*
 * api/reply.h - the answer to a request that control/ carries out: an operation, a little later.
 *
 *	control_image_prune(control, project, reply_done, reply_new(req, KIND_IMAGE, NULL));
 *
 * Outlives the request when the client hangs up: control answers exactly once, and then it goes.
 * Thread: the loop's.
 */
#include "control/control.h"

struct error;
struct request;

/* Makes the request wait.  `name` (may be NULL) is what the client called the thing of `kind`. */
struct reply *reply_new(struct request *req, enum kind kind, const char *name);

/* A control_done_fn; `data` is the reply. */
void reply_done(int result, const struct error *err, const json_t *operation, void *data);

/* "did you mean ...?" among the resources of a kind, or NULL.  Caller frees. */
char *reply_near_hint(struct control *control, enum kind kind, const char *project,
		      const char *name);

/* An error answer; when it is -ENOENT with near misses as the hint. */
void reply_error(struct request *req, int code, const struct error *err, enum kind kind,
		 const char *name);

/* An error answer from the "error" of a stream that its agent has closed. */
void reply_stream_error(struct request *req, const json_t *error);
