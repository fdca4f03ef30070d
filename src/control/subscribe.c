#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "control/control_internal.h"
#include "control/resource.h"

struct control_subscription {
	struct control *control;
	struct store_watch *watch;
	char *project;
	int kind;
	char *name;
	control_event_fn event;
	control_ended_fn ended;
	void *data;
	bool delivering;
	bool freed;
};

/* `old_name` is NULL, or what a renamed resource was called. */
static bool wanted(const struct control_subscription *sub, enum kind kind, const struct meta *meta,
		   const char *old_name)
{
	bool global = kind == KIND_PROJECT || kind == KIND_NODE;

	return (sub->kind < 0 || sub->kind == (int) kind) &&
	       (!sub->project || global || strcmp(sub->project, meta->project) == 0) &&
	       (!sub->name || strcmp(sub->name, meta->name) == 0 ||
		(old_name && strcmp(sub->name, old_name) == 0));
}

/* The kind in front of a key; -ENOENT for what is not a resource. */
static int event_kind(const char *key, enum kind *ret)
{
	const char *slash = strchr(key + 1, '/');
	AUTO(free) char *text = slash ? mem_strndup(key + 1, (size_t) (slash - key - 1)) : NULL;

	return text && kind_parse(text, ret) == 0 ? 0 : -ENOENT;
}

/* A change of the store as the resource it is about. */
struct change {
	const struct store_event *event;
	enum kind kind;
	void *resource; /* NULL: it is none */
	bool told;
};

static struct change read_change(const struct store_event *event)
{
	struct change change = { .event = event };

	if (event_kind(event->key, &change.kind) < 0 ||
	    resource_decode(change.kind, event->value, event->mod_revision, &change.resource,
			    NULL) < 0)
		change.resource = NULL;
	return change;
}

static const struct meta *meta_of(const struct change *change)
{
	return resource_meta(change->kind, change->resource);
}

static void tell(struct control_subscription *sub, const struct change *change,
		 enum event_action action, const char *old_name)
{
	const struct meta *meta = meta_of(change);
	AUTO(json_decref) json_t *doc = NULL;

	if (!wanted(sub, change->kind, meta, old_name))
		return;
	doc = resource_encode(change->kind, change->resource, ENCODE_SHOW);
	struct event event = {
		.revision = change->event->mod_revision,
		.kind = change->kind,
		.action = action,
		.project = meta->project,
		.name = meta->name,
		.old_name = (char *) old_name,
		.resource = doc,
	};
	memcpy(event.uid, meta->uid, UID_SIZE);
	sub->event(&event, sub->data);
}

/* The other half of a renaming: the same resource, put under one key and deleted under another. */
static struct change *other_half(struct change *changes, size_t count, const struct change *one)
{
	for (size_t i = 0; i < count; i++)
		if (changes[i].resource && changes[i].kind == one->kind &&
		    changes[i].event->deleted != one->event->deleted &&
		    strcmp(meta_of(&changes[i])->uid, meta_of(one)->uid) == 0)
			return &changes[i];
	return NULL;
}

static void tell_change(struct control_subscription *sub, struct change *changes, size_t count,
			struct change *change)
{
	bool created = change->event->create_revision == change->event->mod_revision;
	struct change *other =
		change->event->deleted || created ? other_half(changes, count, change) : NULL;

	if (other) {
		const struct change *after = change->event->deleted ? other : change;
		const struct change *before = change->event->deleted ? change : other;

		other->told = true;
		tell(sub, after, EVENT_RENAMED, meta_of(before)->name);
		return;
	}
	tell(sub, change,
	     change->event->deleted ? EVENT_DELETED
	     : created              ? EVENT_CREATED
				    : EVENT_UPDATED,
	     NULL);
}

static void tell_transaction(struct control_subscription *sub, const struct store_event *events,
			     size_t count)
{
	AUTO(free) struct change *changes = mem_new0_array(struct change, count);

	for (size_t i = 0; i < count; i++)
		changes[i] = read_change(&events[i]);
	for (size_t i = 0; i < count && !sub->freed; i++)
		if (changes[i].resource && !changes[i].told)
			tell_change(sub, changes, count, &changes[i]);
	for (size_t i = 0; i < count; i++)
		if (changes[i].resource)
			resource_free(changes[i].kind, changes[i].resource);
}

static void release(struct control_subscription *sub)
{
	store_watch_free(sub->watch);
	free(sub->project);
	free(sub->name);
	free(sub);
}

static void on_events(const struct store_event *events, size_t count, uint64_t revision, void *data)
{
	struct control_subscription *sub = data;

	(void) revision;
	sub->delivering = true;
	for (size_t i = 0, n; i < count && !sub->freed; i += n) {
		n = store_events_of_transaction(events + i, count - i);
		tell_transaction(sub, events + i, n);
	}
	sub->delivering = false;
	if (sub->freed)
		release(sub);
}

static void on_ended(int error, const char *message, void *data)
{
	struct control_subscription *sub = data;
	struct error err = {};

	error_say(&err, error, "%s", message);
	sub->delivering = true;
	if (sub->ended)
		sub->ended(error, &err, sub->data);
	sub->delivering = false;
	if (sub->freed)
		release(sub);
}

static const struct store_watch_ops watch_ops = { on_events, on_ended };

int control_subscribe(struct control *control, uint64_t cursor, const struct control_filter *filter,
		      control_event_fn event, control_ended_fn ended, void *data,
		      struct control_subscription **ret, struct error *err)
{
	struct control_subscription *sub;
	AUTO(free) char *prefix = NULL;

	if (!control->ready)
		return error_say(err, -ENOTCONN, "brume is still starting");
	if (cursor > control->revision)
		return error_say(
			err, -ESTALE, "cursor %llu is in the future, the present revision is %llu",
			(unsigned long long) cursor, (unsigned long long) control->revision);
	sub = mem_new0(struct control_subscription);
	sub->control = control;
	sub->project = mem_strdup(filter->project);
	sub->kind = filter->kind;
	sub->name = mem_strdup(filter->name);
	sub->event = event;
	sub->ended = ended;
	sub->data = data;
	prefix = sub->kind >= 0 ? mem_printf("/%s/", kind_name((enum kind) sub->kind))
				: mem_strdup("/");
	sub->watch = store_watch_new(control->store, prefix,
				     (cursor ? cursor : control->revision) + 1, &watch_ops, sub);
	*ret = sub;
	return 0;
}

void control_subscription_free(struct control_subscription *sub)
{
	if (!sub)
		return;
	sub->freed = true;
	if (!sub->delivering)
		release(sub);
}
