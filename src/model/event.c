#include "model/event.h"

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/member.h"

enum { NAME_MAX_BYTES = 512 };

static const char *const action_names[] = { "created", "updated", "deleted", "renamed", NULL };

int event_decode(const json_t *doc, struct event **ret, struct error *err)
{
	AUTO(event_free) struct event *event = mem_new0(struct event);
	struct json_reader in = { .err = err };
	unsigned int kind = 0, action = 0;
	json_t *resource = NULL;

	json_read_uint64(&in, doc, "revision", &event->revision);
	member_read_enum(&in, doc, "kind", kind_names, &kind);
	member_read_enum(&in, doc, "action", action_names, &action);
	member_read_text(&in, doc, "project", NAME_MAX_BYTES, &event->project);
	member_read_text(&in, doc, "name", NAME_MAX_BYTES, &event->name);
	member_read_text(&in, doc, "old_name", NAME_MAX_BYTES, &event->old_name);
	member_read_uid(&in, doc, "uid", event->uid);
	json_read_object(&in, doc, "resource", &resource);
	if (json_reader_finish(&in, doc) < 0)
		return in.result;
	event->kind = kind;
	event->action = action;
	event->resource = json_incref(resource);
	*ret = TAKE_PTR(event);
	return 0;
}

json_t *event_encode(const struct event *event)
{
	json_t *doc = json_object();

	member_put_uint(doc, "revision", event->revision);
	json_put_string(doc, "kind", kind_names[event->kind]);
	json_put_string(doc, "action", action_names[event->action]);
	json_put_string(doc, "project", event->project);
	json_put_string(doc, "name", event->name);
	json_put_string(doc, "old_name", event->old_name);
	json_put_string(doc, "uid", event->uid);
	if (event->resource)
		json_object_set(doc, "resource", event->resource);
	return doc;
}

void event_free(struct event *event)
{
	if (!event)
		return;
	free(event->project);
	free(event->name);
	free(event->old_name);
	json_decref(event->resource);
	free(event);
}
