#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strv.h"
#include "control/control_internal.h"
#include "control/resource.h"

struct draft_item *draft_find(struct draft *draft, const struct item *item)
{
	for (struct draft_item *d = draft->items; d; d = d->next)
		if (d->item == item)
			return d;
	return NULL;
}

/* In order: the agent should hear of an image before the instance that needs it. */
static void draft_append(struct draft *draft, struct draft_item *d)
{
	struct draft_item **p = &draft->items;

	while (*p)
		p = &(*p)->next;
	*p = d;
}

static struct draft_item *draft_add(struct draft *draft, struct item *item)
{
	struct draft_item *d = draft_find(draft, item);

	if (d)
		return d;
	d = mem_new0(struct draft_item);
	d->item = item;
	d->kind = item->kind;
	d->key = mem_strdup(item->key);
	d->resource = resource_copy(item->kind, item->resource);
	draft_append(draft, d);
	return d;
}

void *draft_edit(struct draft *draft, struct item *item)
{
	return draft_add(draft, item)->resource;
}

void draft_remove(struct draft *draft, struct item *item)
{
	draft_add(draft, item)->remove = true;
}

void draft_touch(struct draft *draft, struct item *item)
{
	draft_add(draft, item)->touch = true;
}

void draft_rename(struct draft *draft, struct item *item, const char *name)
{
	struct draft_item *d = draft_add(draft, item);
	struct meta *meta = resource_meta(d->kind, d->resource);

	mem_replace(&meta->name, name);
	meta->generation++;
	d->old_key = d->key;
	d->key = resource_key(d->kind, meta->project, name);
}

void draft_require(struct draft *draft, const struct item *item)
{
	store_txn_compare(&draft->txn, STORE_MOD_REVISION, item->key, item->meta->revision);
}

void draft_create(struct draft *draft, enum kind kind, void *resource)
{
	struct draft_item *d = mem_new0(struct draft_item);
	struct meta *meta = resource_meta(kind, resource);

	d->kind = kind;
	d->key = resource_key(kind, meta->project, meta->name);
	d->resource = resource;
	draft_append(draft, d);
}

void draft_claim(struct draft *draft, const char *key, const char *uid)
{
	AUTO(free) char *value = mem_printf("{\"instance\":\"%s\"}", uid);

	store_txn_compare(&draft->txn, STORE_MOD_REVISION, key, 0);
	store_ops_put(&draft->txn.then, key, value, 0);
}

void draft_claim_port(struct draft *draft, const char *key, const char *uid, const char *port_uid)
{
	AUTO(free)
	char *value = mem_printf("{\"instance\":\"%s\",\"port\":\"%s\"}", uid, port_uid);

	store_txn_compare(&draft->txn, STORE_MOD_REVISION, key, 0);
	store_ops_put(&draft->txn.then, key, value, 0);
}

/* What is written must be readable: an entry that is not would keep every next brumed from
 * starting. */
static int check_readable(const struct draft_item *d, const char *text, struct error *err)
{
	void *resource = NULL;
	int r = resource_decode(d->kind, text, 0, &resource, err);

	if (r == 0)
		resource_free(d->kind, resource);
	return r;
}

int draft_finish(struct draft *draft, struct error *err)
{
	for (struct draft_item *d = draft->items; d; d = d->next) {
		AUTO(free) char *text = NULL;
		AUTO(free) char *old = NULL;
		int r;

		if (d->remove) {
			draft_require(draft, d->item);
			store_ops_delete(&draft->txn.then, d->key);
			continue;
		}
		text = resource_text(d->kind, d->resource);
		if (strlen(text) > RESOURCE_MAX_BYTES)
			return error_say(err, -EMSGSIZE, "%s \"%s\" is larger than %d KiB",
					 kind_name(d->kind),
					 resource_meta(d->kind, d->resource)->name,
					 RESOURCE_MAX_BYTES / 1024);
		if (!d->item) {
			store_txn_compare(&draft->txn, STORE_MOD_REVISION, d->key, 0);
		} else {
			old = resource_text(d->kind, d->item->resource);
			if (strcmp(old, text) == 0 && !d->touch)
				continue;
			draft_require(draft, d->item);
		}
		if (d->old_key) {
			store_txn_compare(&draft->txn, STORE_MOD_REVISION, d->key, 0);
			store_ops_delete(&draft->txn.then, d->old_key);
		}
		r = check_readable(d, text, err);
		if (r < 0)
			return r;
		store_ops_put(&draft->txn.then, d->key, text, 0);
	}
	return draft->txn.then.count > 0 ? WORK_COMMIT : WORK_NOTHING;
}

void draft_done(struct draft *draft)
{
	while (draft->items) {
		struct draft_item *d = draft->items;

		draft->items = d->next;
		resource_free(d->kind, d->resource);
		free(d->key);
		free(d->old_key);
		free(d);
	}
	store_txn_done(&draft->txn);
}

void meta_new(struct control *control, struct meta *meta, const char *project, const char *name,
	      char *const *labels)
{
	meta->name = mem_strdup(name);
	meta->project = mem_strdup(project);
	rng_uid(control->rng, meta->uid);
	meta->generation = 1;
	meta->created_ms = clock_realtime_ms(control->clock);
	meta->labels = strv_copy(labels);
}

struct operation *draft_operation(struct draft *draft, enum operation_action action, enum kind kind,
				  const struct meta *target)
{
	struct operation *operation = mem_new0(struct operation);
	struct meta *meta = &operation->meta;

	meta_new(draft->control, meta, target->project, "", NULL);
	mem_replace(&meta->name, meta->uid);
	operation->action = action;
	operation->target_kind = kind;
	operation->target_name = mem_strdup(target->name);
	memcpy(operation->target_uid, target->uid, UID_SIZE);
	operation->generation = target->generation;
	draft_create(draft, KIND_OPERATION, operation);
	return operation;
}

void draft_mark_deleted(struct draft *draft, struct meta *meta)
{
	if (meta->deleted_ms)
		return;
	meta->deleted_ms = clock_realtime_ms(draft->control->clock);
	meta->generation++;
}
