#pragma once
/*
 * model/event.h - one change of one resource, as the event stream tells it.
 *
 * `revision` is the cursor: who says "after 42" gets everything that changed later.
 * No state, thread-safe.
 */
#include <jansson.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "model/meta.h"

enum event_action { EVENT_CREATED, EVENT_UPDATED, EVENT_DELETED, EVENT_RENAMED };

struct event {
	uint64_t revision;
	enum kind kind;
	enum event_action action;
	char *project;
	char *name;
	char *old_name; /* of "renamed" */
	char uid[UID_SIZE];
	json_t *resource; /* after the change; for "deleted" the last one; a reference */
};

int event_decode(const json_t *doc, struct event **ret, struct error *err);
json_t *event_encode(const struct event *event);
void event_free(struct event *event);
DEFINE_AUTO(struct event *, event_free)
