#pragma once
/*
 * client/operation.h - waits until an operation of the server has ended.
 *
 * Used by cli/.  The server answers each wait when the operation changed, so nothing is polled.
 */
#include <jansson.h>

struct client;
struct error;

/* Called for each change that is not the last one; `operation` is borrowed. */
typedef void (*operation_progress_fn)(void *userdata, const json_t *operation);

/*
 * *ret is the operation when it has ended, whatever its end; operation_result() judges it.
 * -EINTR when client_set_wakeup()'s descriptor became readable.
 */
int operation_wait(struct client *client, const json_t *operation, operation_progress_fn progress,
		   void *userdata, json_t **ret, struct error *err);

/* Asks the server to cancel; it may have ended in the meantime, which is fine. */
int operation_cancel(struct client *client, const char *id, struct error *err);

/* 0 when it is done; -ECANCELED, -EIO with the operation's own words. */
int operation_result(const json_t *operation, struct error *err);

/* The id, or "" when the server sent something else. */
const char *operation_id(const json_t *operation);
