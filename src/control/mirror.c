#include <errno.h>
#include <string.h>
#include <utlist.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "control/control_internal.h"
#include "control/resource.h"
#include "model/member.h"

char *resource_key(enum kind kind, const char *project, const char *name)
{
	bool global = kind == KIND_PROJECT || kind == KIND_NODE;

	return mem_printf("/%s/%s/%s", kind_name(kind), global ? "_" : project, name);
}

/* The kind of a resource's key; -ENOENT for reservations and other keys. */
static int key_kind(const char *key, enum kind *ret)
{
	const char *slash = key[0] == '/' ? strchr(key + 1, '/') : NULL;
	char text[16];

	if (!slash || (size_t) (slash - key) > sizeof(text))
		return -ENOENT;
	memcpy(text, key + 1, (size_t) (slash - key - 1));
	text[slash - key - 1] = '\0';
	return kind_parse(text, ret) < 0 ? -ENOENT : 0;
}

struct item *mirror_find_key(struct control *control, const char *key)
{
	struct item *item;

	HASH_FIND(by_key, control->items, key, strlen(key), item);
	return item;
}

struct item *mirror_find(struct control *control, enum kind kind, const char *project,
			 const char *name)
{
	AUTO(free) char *key = resource_key(kind, project, name);

	return mirror_find_key(control, key);
}

struct item *mirror_find_uid(struct control *control, const char *uid)
{
	struct item *item;

	HASH_FIND(by_uid, control->items_by_uid, uid, strlen(uid), item);
	return item;
}

struct claim *mirror_find_claim(struct control *control, const char *key)
{
	struct claim *claim;

	HASH_FIND(by_key, control->claims, key, strlen(key), claim);
	return claim;
}

void mark_dirty(struct control *control, struct item *item)
{
	if (item->dirty)
		return;
	item->dirty = true;
	item->dirty_next = NULL;
	if (!control->dirty)
		control->dirty_last = &control->dirty;
	*control->dirty_last = item;
	control->dirty_last = &item->dirty_next;
}

static void unmark_dirty(struct control *control, struct item *item)
{
	control->dirty_last = &control->dirty;
	for (struct item **p = &control->dirty; *p;) {
		if (*p == item) {
			*p = item->dirty_next;
			continue;
		}
		control->dirty_last = &(*p)->dirty_next;
		p = &(*p)->dirty_next;
	}
	item->dirty = false;
}

/* Operations that wait for this uid look again. */
static void mark_operations(struct control *control, const char *uid)
{
	struct item *running;

	DL_FOREACH2(control->running, running, running_next)
	{
		const struct operation *operation = item_operation(running);
		bool waits = strcmp(operation->target_uid, uid) == 0;

		for (size_t i = 0; operation->members && operation->members[i]; i++)
			waits |= strcmp(operation->members[i], uid) == 0;
		if (waits)
			mark_dirty(control, running);
	}
}

/* A change of an image concerns the launches that wait for it. */
static void mark_launches(struct control *control, const struct item *image)
{
	struct item *running, *target;

	DL_FOREACH2(control->running, running, running_next)
	{
		const struct operation *operation = item_operation(running);

		if (operation->target_kind != KIND_INSTANCE)
			continue;
		target = mirror_find_uid(control, operation->target_uid);
		if (target && item_instance(target)->spec.image_name &&
		    strcmp(item_instance(target)->spec.image_name, image->meta->name) == 0 &&
		    strcmp(target->meta->project, image->meta->project) == 0)
			mark_dirty(control, target);
	}
}

static void item_track_operation(struct control *control, struct item *item, bool there)
{
	bool listed = item->running_prev != NULL;
	bool runs = there && item_operation(item)->state == OPERATION_RUNNING;

	if (runs && !listed)
		DL_APPEND2(control->running, item, running_prev, running_next);
	if (!runs && listed) {
		DL_DELETE2(control->running, item, running_prev, running_next);
		item->running_prev = NULL;
		item->running_next = NULL;
	}
}

static void item_track_router(struct control *control, struct item *item, bool there)
{
	bool listed = item->routers_prev != NULL;

	if (there && !listed)
		DL_APPEND2(control->routers, item, routers_prev, routers_next);
	if (!there && listed) {
		DL_DELETE2(control->routers, item, routers_prev, routers_next);
		item->routers_prev = NULL;
		item->routers_next = NULL;
	}
}

/* What a router calls by an instance's name leads to its addresses. */
static void mark_routers(struct control *control, const struct item *instance)
{
	struct item *router;

	DL_FOREACH2(control->routers, router, routers_next)
	{
		if (strcmp(router->meta->project, instance->meta->project) == 0)
			mark_dirty(control, router);
	}
}

static void item_changed(struct control *control, struct item *item, bool removed)
{
	if (item->kind == KIND_OPERATION) {
		item_track_operation(control, item, !removed);
		wait_notify(control, item, removed);
	}
	if (item->kind == KIND_IMAGE)
		mark_launches(control, item);
	if (item->kind == KIND_BALANCER)
		balancers_track(control, item, !removed);
	if (item->kind == KIND_INSTANCE)
		balancers_notice(control, item, removed);
	if (item->kind == KIND_ROUTER)
		item_track_router(control, item, !removed);
	if (item->kind == KIND_INSTANCE)
		mark_routers(control, item);
	if (removed) {
		node_forget(control, item);
		mark_operations(control, item->meta->uid);
		return;
	}
	node_assign(control, item);
	if (item->kind != KIND_NODE && item->kind != KIND_PROJECT)
		mark_dirty(control, item);
}

static void item_free(struct control *control, struct item *item)
{
	if (item->dirty)
		unmark_dirty(control, item);
	status_drop(control, item);
	resource_free(item->kind, item->resource);
	free(item->shown);
	free(item->key);
	free(item);
}

/*
 * A resource that is known under another name was renamed: it stays the same item, so that what is
 * not in the store stays with it.  A work that settles the old name finds nothing there and ends.
 */
static struct item *rename_item(struct control *control, enum kind kind, const char *uid,
				const char *key)
{
	struct item *item = mirror_find_uid(control, uid);

	if (!item || item->kind != kind)
		return NULL;
	HASH_DELETE(by_key, control->items, item);
	free(item->key);
	item->key = mem_strdup(key);
	HASH_ADD_KEYPTR(by_key, control->items, item->key, strlen(item->key), item);
	item->settling = item->dirty_again = false;
	return item;
}

static int put_item(struct control *control, enum kind kind, const char *key, const char *value,
		    uint64_t revision, struct error *err)
{
	struct item *item = mirror_find_key(control, key);
	void *resource = NULL;
	int r = resource_decode(kind, value, revision, &resource, err);

	if (r < 0)
		return error_wrap(err, r, "%s", key);
	if (!item)
		item = rename_item(control, kind, resource_meta(kind, resource)->uid, key);
	if (item) {
		HASH_DELETE(by_uid, control->items_by_uid, item);
		resource_free(kind, item->resource);
	} else {
		item = mem_new0(struct item);
		item->key = mem_strdup(key);
		item->kind = kind;
		HASH_ADD_KEYPTR(by_key, control->items, item->key, strlen(item->key), item);
		control->operation_count += kind == KIND_OPERATION;
	}
	item->resource = resource;
	item->meta = resource_meta(kind, resource);
	HASH_ADD_KEYPTR(by_uid, control->items_by_uid, item->meta->uid, strlen(item->meta->uid),
			item);
	item_changed(control, item, false);
	return 0;
}

/* The use of an image has ended: an implicit one that never became ready may go now. */
static void claim_released(struct control *control, const struct claim *claim)
{
	static const char prefix[] = "/imageuse/";
	char uid[UID_SIZE] = "";
	struct item *image;

	if (strncmp(claim->key, prefix, strlen(prefix)) != 0)
		return;
	strncat(uid, claim->key + strlen(prefix), UID_SIZE - 1);
	image = mirror_find_uid(control, uid);
	if (image)
		mark_dirty(control, image);
}

static int put_claim(struct control *control, const char *key, const char *value, uint64_t revision,
		     struct error *err)
{
	struct json_reader in = { .err = err };
	AUTO(json_decref) json_t *doc = NULL;
	struct claim *claim = mirror_find_claim(control, key);
	char uid[UID_SIZE] = "";
	int r = json_parse(value, strlen(value), STORE_VALUE_MAX, &doc, err);

	if (r == 0) {
		member_read_uid(&in, doc, "instance", uid);
		json_read_any(&in, doc, "port", NULL);
		r = json_reader_finish(&in, doc);
	}
	if (r < 0)
		return error_wrap(err, r, "%s", key);
	if (!claim) {
		claim = mem_new0(struct claim);
		claim->key = mem_strdup(key);
		HASH_ADD_KEYPTR(by_key, control->claims, claim->key, strlen(claim->key), claim);
	}
	memcpy(claim->uid, uid, sizeof(uid));
	claim->revision = revision;
	return 0;
}

int mirror_put(struct control *control, const char *key, const char *value, uint64_t revision,
	       struct error *err)
{
	enum kind kind;

	if (key_kind(key, &kind) < 0)
		return put_claim(control, key, value, revision, err);
	return put_item(control, kind, key, value, revision, err);
}

void mirror_delete(struct control *control, const char *key)
{
	struct item *item = mirror_find_key(control, key);
	struct claim *claim = item ? NULL : mirror_find_claim(control, key);

	if (item) {
		HASH_DELETE(by_key, control->items, item);
		HASH_DELETE(by_uid, control->items_by_uid, item);
		control->operation_count -= item->kind == KIND_OPERATION;
		item_changed(control, item, true);
		item_free(control, item);
	}
	if (claim) {
		HASH_DELETE(by_key, control->claims, claim);
		claim_released(control, claim);
		free(claim->key);
		free(claim);
	}
}

struct item *mirror_image_user(struct control *control, const struct item *image,
			       const char *except, bool with_deleted)
{
	struct item *item, *next;

	HASH_ITER(by_key, control->items, item, next)
	{
		const struct instance *instance = item_instance(item);

		if (item->kind != KIND_INSTANCE || !instance->spec.image_name ||
		    strcmp(instance->spec.image_name, image->meta->name) != 0 ||
		    strcmp(item->meta->project, image->meta->project) != 0)
			continue;
		if (except && strcmp(item->meta->uid, except) == 0)
			continue;
		if (with_deleted || !item->meta->deleted_ms)
			return item;
	}
	return NULL;
}

void mirror_free(struct control *control)
{
	struct item *item, *next_item;
	struct claim *claim, *next_claim;

	HASH_CLEAR(by_uid, control->items_by_uid);
	HASH_ITER(by_key, control->items, item, next_item)
	{
		HASH_DELETE(by_key, control->items, item);
		item_free(control, item);
	}
	HASH_ITER(by_key, control->claims, claim, next_claim)
	{
		HASH_DELETE(by_key, control->claims, claim);
		free(claim->key);
		free(claim);
	}
}
