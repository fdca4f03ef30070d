#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "control/control_internal.h"
#include "control/resource.h"

struct control_wait {
	struct control *control;
	char *key;
	uint64_t above_revision;
	control_wait_fn ready;
	void *data;
	bool called;
	bool coming; /* the store's answer that leads back to the loop */
	bool freed;
	struct control_wait *prev, *next;
};

uint64_t control_revision(const struct control *control)
{
	return control->revision;
}

/* The newest status: one that passes may not have been written yet. */
static void newest_status(const struct item *item, struct instance_status *ret)
{
	const struct instance *instance = item_instance(item);
	AUTO(json_decref) json_t *stored = NULL;

	instance_status_init(ret);
	if (item->status) {
		instance_status_decode(item->status, ret, NULL);
		mem_replace(&ret->node, instance->spec.node);
		return;
	}
	stored = instance_status_encode(&instance->status);
	instance_status_decode(stored, ret, NULL);
}

static json_t *show_instance(const struct control *control, const struct item *item)
{
	struct instance *instance = item_instance(item);
	struct instance_status stored = instance->status, shown;
	json_t *doc;

	if (control->connected && !item->status)
		return instance_encode(instance, ENCODE_SHOW);
	newest_status(item, &shown);
	/* What a node that is offline said last may not be so any more. */
	if (!control->connected && shown.state != INSTANCE_STOPPED &&
	    shown.state != INSTANCE_FAILED)
		shown.state = INSTANCE_UNKNOWN;
	instance->status = shown;
	doc = instance_encode(instance, ENCODE_SHOW);
	instance->status = stored;
	instance_status_done(&shown);
	return doc;
}

static json_t *show(struct control *control, const struct item *item)
{
	if (item->kind == KIND_INSTANCE)
		return show_instance(control, item);
	return resource_encode(item->kind, item->resource, ENCODE_SHOW);
}

static int check_ready(const struct control *control, struct error *err)
{
	if (control->ready)
		return 0;
	return error_say(err, -ENOTCONN, "brume is still starting");
}

static int find(struct control *control, enum kind kind, const char *project, const char *name,
		struct item **ret, struct error *err)
{
	bool global = kind == KIND_PROJECT || kind == KIND_NODE;
	AUTO(free) char *normalized = NULL;
	struct item *item = NULL;
	int r = check_ready(control, err);

	if (r == 0 && !global)
		r = require_project(control, project, err);
	if (r < 0)
		return r;
	item = mirror_find(control, kind, project, name);
	if (!item && kind == KIND_IMAGE &&
	    control_image_name(control, project, name, &normalized, NULL) == 0)
		item = mirror_find(control, kind, project, normalized);
	if (!item)
		return error_say(err, -ENOENT, "%s \"%s\" does not exist", kind_name(kind), name);
	*ret = item;
	return 0;
}

int control_get(struct control *control, enum kind kind, const char *project, const char *name,
		json_t **ret, struct error *err)
{
	struct item *item = NULL;
	int r = find(control, kind, project, name, &item, err);

	if (r == 0)
		*ret = show(control, item);
	return r;
}

static int by_name(const void *a, const void *b)
{
	const struct item *x = *(struct item *const *) a, *y = *(struct item *const *) b;

	if (x->kind == KIND_OPERATION && x->meta->created_ms != y->meta->created_ms)
		return x->meta->created_ms < y->meta->created_ms ? -1 : 1;
	return strcmp(x->meta->name, y->meta->name);
}

/* The items of a list in their order, NULL-terminated; the caller frees the array. */
static int select_items(struct control *control, enum kind kind, const char *project,
			struct item ***ret, struct error *err)
{
	bool global = kind == KIND_PROJECT || kind == KIND_NODE;
	struct item **items, *item, *next;
	size_t count = 0;
	int r = check_ready(control, err);

	if (r == 0 && !global)
		r = require_project(control, project, err);
	if (r < 0)
		return r;
	items = mem_new0_array(struct item *, HASH_CNT(by_key, control->items) + 1);
	HASH_ITER(by_key, control->items, item, next)
	{
		if (item->kind == kind && (global || strcmp(item->meta->project, project) == 0))
			items[count++] = item;
	}
	qsort(items, count, sizeof(*items), by_name);
	*ret = items;
	return 0;
}

int control_list(struct control *control, enum kind kind, const char *project, bool full,
		 json_t **ret, struct error *err)
{
	AUTO(free) struct item **items = NULL;
	int r = select_items(control, kind, project, &items, err);

	if (r < 0)
		return r;
	*ret = json_array();
	for (size_t i = 0; items[i]; i++)
		json_array_append_new(*ret, full ? show(control, items[i])
						 : json_string(items[i]->meta->name));
	return 0;
}

/* The text of a resource as people see it; kept until the resource or its node changes. */
static const char *show_text(struct control *control, struct item *item)
{
	if (!item->shown || item->status || item->shown_revision != item->meta->revision ||
	    item->shown_connected != control->connected) {
		AUTO(json_decref) json_t *doc = show(control, item);

		free(item->shown);
		item->shown = json_dumps(doc, JSON_COMPACT);
		/* A status that is not written yet changes without a revision. */
		item->shown_revision = item->status ? 0 : item->meta->revision;
		item->shown_connected = control->connected;
	}
	return item->shown ? item->shown : "null";
}

int control_list_text(struct control *control, enum kind kind, const char *project,
		      struct strbuf *out, struct error *err)
{
	AUTO(free) struct item **items = NULL;
	int r = select_items(control, kind, project, &items, err);

	if (r < 0)
		return r;
	strbuf_puts(out, "[");
	for (size_t i = 0; items[i]; i++) {
		strbuf_puts(out, i == 0 ? "" : ",");
		strbuf_puts(out, show_text(control, items[i]));
	}
	strbuf_puts(out, "]");
	return 0;
}

int control_locate(struct control *control, enum kind kind, const char *project, const char *name,
		   struct control_location *ret, struct error *err)
{
	struct control_location location = {};
	const char *node;
	struct item *item = NULL;
	int r = find(control, kind, project, name, &item, err);

	if (r < 0)
		return r;
	if (kind == KIND_INSTANCE) {
		node = item_instance(item)->spec.node;
		struct instance_status newest;

		newest_status(item, &newest);
		location.running = newest.state == INSTANCE_RUNNING;
		location.paused = newest.state == INSTANCE_PAUSED;
		instance_status_done(&newest);
	} else if (kind == KIND_IMAGE) {
		node = item_image(item)->spec.node;
	} else if (kind == KIND_NETWORK) {
		node = item_network(item)->spec.node;
	} else {
		return error_say(err, -EINVAL, "a %s is on no node", kind_name(kind));
	}
	if (!control->connected)
		return error_say(err, -ENOTCONN, "node \"%s\" is offline", node);
	snprintf(location.node, sizeof(location.node), "%s", node);
	memcpy(location.uid, item->meta->uid, UID_SIZE);
	*ret = location;
	return 0;
}

/* ---- waiting for operations */

static void wait_call(struct control_wait *wait, const struct item *item)
{
	AUTO(json_decref) json_t *doc = item ? show(wait->control, item) : NULL;

	wait->called = true;
	wait->ready(doc, wait->data);
}

static bool wait_is_over(const struct control_wait *wait, const struct item *item)
{
	return !item || item_operation(item)->state != OPERATION_RUNNING ||
	       (wait->above_revision > 0 && item->meta->revision > wait->above_revision);
}

void wait_notify(struct control *control, const struct item *item, bool removed)
{
	struct control_wait *wait, *next;

	DL_FOREACH_SAFE(control->waits, wait, next)
	{
		if (!wait->called && !wait->freed && strcmp(wait->key, item->key) == 0 &&
		    wait_is_over(wait, removed ? NULL : item))
			wait_call(wait, removed ? NULL : item);
	}
}

static void wait_release(struct control_wait *wait)
{
	free(wait->key);
	free(wait);
}

/* The operation had ended before the wait began. */
static void on_wait_turn(const struct store_result *result, void *data)
{
	struct control_wait *wait = data;
	struct item *item = NULL;

	wait->coming = false;
	if (wait->freed) {
		wait_release(wait);
		return;
	}
	if (wait->called || result->error == -ECANCELED)
		return;
	item = mirror_find_key(wait->control, wait->key);
	if (wait_is_over(wait, item))
		wait_call(wait, item);
}

int control_operation_wait(struct control *control, const char *project, const char *id,
			   uint64_t above_revision, control_wait_fn ready, void *data,
			   struct control_wait **ret, struct error *err)
{
	struct control_wait *wait;
	struct item *item = NULL;
	int r = find(control, KIND_OPERATION, project, id, &item, err);

	if (r < 0)
		return r;
	wait = mem_new0(struct control_wait);
	wait->control = control;
	wait->key = mem_strdup(item->key);
	wait->above_revision = above_revision;
	wait->ready = ready;
	wait->data = data;
	DL_APPEND(control->waits, wait);
	if (wait_is_over(wait, item)) {
		struct store_txn nothing = {};

		wait->coming = true;
		store_commit(control->store, &nothing, on_wait_turn, wait);
	}
	*ret = wait;
	return 0;
}

void control_wait_free(struct control_wait *wait)
{
	if (!wait)
		return;
	DL_DELETE(wait->control->waits, wait);
	wait->freed = true;
	if (!wait->coming)
		wait_release(wait);
}
