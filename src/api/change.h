#pragma once
/*
 * api/change.h - handlers of PATCH and DELETE, as most collections have them.
 *
 * Used by the handlers of api/.  Thread: the loop's.
 */
#include <jansson.h>
#include <stdint.h>

#include "control/control.h"

struct error;
struct request;

/* The body of a request that changes something, and the revision that it must have (0 = any). */
int change_read(struct request *req, json_t **ret_body, uint64_t *ret_revision, struct error *err);

typedef void (*change_patch_fn)(struct control *control, const char *project, const char *name,
				const json_t *patch, uint64_t if_match, control_done_fn done,
				void *data);
typedef void (*change_delete_fn)(struct control *control, const char *project, const char *name,
				 uint64_t if_match, control_done_fn done, void *data);

/* Hands the request's body, or its name alone, to control, which answers it. */
int change_patch(struct request *req, enum kind kind, change_patch_fn patch, struct error *err);
int change_delete(struct request *req, enum kind kind, change_delete_fn delete, struct error *err);
