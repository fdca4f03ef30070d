#pragma once
/*
 * model/operation.h - a request in progress, with progress, result and a way to cancel it.
 *
 * Its name is its uid.  Written by control/ only; the agent never sees operations.
 * No state, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>

#include "base/cleanup.h"
#include "model/meta.h"

enum operation_action {
	OPERATION_LAUNCH,
	OPERATION_START,
	OPERATION_STOP,
	OPERATION_RESTART,
	OPERATION_PAUSE,
	OPERATION_RESUME,
	OPERATION_CREATE,
	OPERATION_SET,
	OPERATION_DELETE,
	OPERATION_PULL,
	OPERATION_IMPORT,
	OPERATION_PRUNE,
	OPERATION_RENAME,
	OPERATION_UPDATE,
	OPERATION_COMMIT,
	OPERATION_ATTACH, /* to a network */
	OPERATION_DETACH,
	OPERATION_ACTION_COUNT,
};

enum operation_state {
	OPERATION_RUNNING,
	OPERATION_DONE,
	OPERATION_FAILED,
	OPERATION_CANCELLED,
};

const char *operation_action_name(enum operation_action action);
const char *operation_state_name(enum operation_state state);

struct operation {
	struct meta meta;
	/* spec */
	enum operation_action action;
	enum kind target_kind;
	char *target_name; /* "" for prune */
	char target_uid[UID_SIZE];
	uint64_t generation; /* of the target that it waits for */
	uint64_t seq;        /* start_seq or pull_seq that it waits for; 0 = none */
	char **members;      /* prune: the uids that it waits for */
	json_t *undo;        /* update, attach: what takes it back; NULL or an object */
	/* status */
	enum operation_state state;
	enum operation_state ending; /* what it becomes when the undoing is done; RUNNING = none */
	uint64_t done_bytes;
	uint64_t total_bytes;
	char *text; /* what it is doing */
	char *error;
	json_t *result; /* NULL or an object */
	int64_t finished_ms;
};

int operation_decode(const json_t *doc, struct operation **ret, struct error *err);
json_t *operation_encode(const struct operation *operation);
void operation_free(struct operation *operation);
DEFINE_AUTO(struct operation *, operation_free)
