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

static bool wanted(const struct control_subscription *sub, enum kind kind, const struct meta *meta)
{
	bool global = kind == KIND_PROJECT || kind == KIND_NODE;

	return (sub->kind < 0 || sub->kind == (int) kind) &&
	       (!sub->project || global || strcmp(sub->project, meta->project) == 0) &&
	       (!sub->name || strcmp(sub->name, meta->name) == 0);
}

/* The kind in front of a key; -ENOENT for what is not a resource. */
static int event_kind(const char *key, enum kind *ret)
{
	const char *slash = strchr(key + 1, '/');
	AUTO(free) char *text = slash ? mem_strndup(key + 1, (size_t) (slash - key - 1)) : NULL;

	return text && kind_parse(text, ret) == 0 ? 0 : -ENOENT;
}

static void tell(struct control_subscription *sub, const struct store_event *change)
{
	void *resource = NULL;
	enum kind kind;

	if (event_kind(change->key, &kind) < 0 ||
	    resource_decode(kind, change->value, change->mod_revision, &resource, NULL) < 0)
		return;
	struct meta *meta = resource_meta(kind, resource);
	if (wanted(sub, kind, meta)) {
		AUTO(json_decref) json_t *doc = resource_encode(kind, resource, ENCODE_SHOW);
		struct event event = {
			.revision = change->mod_revision,
			.kind = kind,
			.action = change->deleted                                   ? EVENT_DELETED
				  : change->create_revision == change->mod_revision ? EVENT_CREATED
										    : EVENT_UPDATED,
			.project = meta->project,
			.name = meta->name,
			.resource = doc,
		};

		memcpy(event.uid, meta->uid, UID_SIZE);
		sub->event(&event, sub->data);
	}
	resource_free(kind, resource);
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
	for (size_t i = 0; i < count && !sub->freed; i++)
		tell(sub, &events[i]);
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
