#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/balancer_internal.h"
#include "model/member.h"

enum { ERROR_MAX_BYTES = 1024 };

static const char *const state_names[] = { "pending", "ready", "down", "failed", "gone", NULL };

static int copy_text(struct json_reader *in, const json_t *object, const char *name, size_t size,
		     char *ret)
{
	AUTO(free) char *text = NULL;

	member_read_text(in, object, name, size - 1, &text);
	if (in->result == 0 && text)
		memcpy(ret, text, strlen(text) + 1);
	return in->result;
}

/* An array of objects within its bounds; its size. */
static size_t read_array(struct json_reader *in, const json_t *object, const char *name,
			 json_t **ret)
{
	json_read_array(in, object, name, ret);
	if (in->result < 0 || !*ret)
		return 0;
	if (json_array_size(*ret) > BALANCER_MEMBERS_MAX) {
		member_fail(in, name, "at most %d are possible", BALANCER_MEMBERS_MAX);
		return 0;
	}
	return json_array_size(*ret);
}

static int by_uid(const void *a, const void *b)
{
	/* Both kinds begin with it. */
	return strcmp(a, b);
}

void balancer_members_read(struct json_reader *in, const json_t *object, struct balancer_spec *spec)
{
	json_t *array = NULL, *item;
	size_t count = read_array(in, object, "members", &array), i;
	struct balancer_member *list =
		count > 0 ? mem_new0_array(struct balancer_member, count) : NULL;

	free(spec->members);
	spec->members = list;
	spec->member_count = 0;
	if (count == 0)
		return;
	json_array_foreach(array, i, item)
	{
		struct json_reader sub = { .err = in->err, .where = "spec.members" };

		member_read_uid(&sub, item, "uid", list[i].uid);
		copy_text(&sub, item, "instance", sizeof(list[i].instance), list[i].instance);
		copy_text(&sub, item, "ipv4", sizeof(list[i].ipv4), list[i].ipv4);
		copy_text(&sub, item, "ipv6", sizeof(list[i].ipv6), list[i].ipv6);
		in->result = json_reader_finish(&sub, item);
		if (in->result < 0)
			return;
		spec->member_count = i + 1;
	}
	qsort(list, count, sizeof(*list), by_uid);
}

void balancer_members_put(json_t *object, const struct balancer_spec *spec)
{
	json_t *array = json_array();

	for (size_t i = 0; i < spec->member_count; i++) {
		const struct balancer_member *member = &spec->members[i];
		json_t *item = json_object();

		json_put_string(item, "uid", member->uid);
		json_put_string(item, "instance", member->instance);
		json_put_string(item, "ipv4", member->ipv4);
		json_put_string(item, "ipv6", member->ipv6);
		json_array_append_new(array, item);
	}
	json_object_set_new(object, "members", array);
}

void balancer_drains_read(struct json_reader *in, const json_t *object, struct balancer_spec *spec)
{
	json_t *array = NULL, *item;
	size_t count = read_array(in, object, "drains", &array), i;
	struct balancer_drain *list =
		count > 0 ? mem_new0_array(struct balancer_drain, count) : NULL;

	free(spec->drains);
	spec->drains = list;
	spec->drain_count = 0;
	if (count == 0)
		return;
	json_array_foreach(array, i, item)
	{
		struct json_reader sub = { .err = in->err, .where = "spec.drains" };

		member_read_uid(&sub, item, "uid", list[i].uid);
		json_read_time(&sub, item, "since", &list[i].since_ms);
		in->result = json_reader_finish(&sub, item);
		if (in->result < 0)
			return;
		spec->drain_count = i + 1;
	}
	qsort(list, count, sizeof(*list), by_uid);
}

void balancer_drains_put(json_t *object, const struct balancer_spec *spec)
{
	json_t *array;

	if (spec->drain_count == 0)
		return;
	array = json_array();
	for (size_t i = 0; i < spec->drain_count; i++) {
		json_t *item = json_object();

		json_put_string(item, "uid", spec->drains[i].uid);
		json_put_time(item, "since", spec->drains[i].since_ms);
		json_array_append_new(array, item);
	}
	json_object_set_new(object, "drains", array);
}

struct balancer_member *balancer_member_find(const struct balancer_spec *spec, const char *uid)
{
	return spec->member_count == 0 ? NULL
				       : bsearch(uid, spec->members, spec->member_count,
						 sizeof(*spec->members), by_uid);
}

struct balancer_drain *balancer_drain_find(const struct balancer_spec *spec, const char *uid)
{
	return spec->drain_count == 0 ? NULL
				      : bsearch(uid, spec->drains, spec->drain_count,
						sizeof(*spec->drains), by_uid);
}

void balancer_drain_add(struct balancer_spec *spec, const char *uid, int64_t since_ms)
{
	struct balancer_drain *added;

	if (balancer_drain_find(spec, uid) || spec->drain_count == BALANCER_MEMBERS_MAX)
		return;
	spec->drains = mem_realloc(spec->drains, spec->drain_count + 1, sizeof(*spec->drains));
	added = &spec->drains[spec->drain_count++];
	*added = (struct balancer_drain){ .since_ms = since_ms };
	strncat(added->uid, uid, UID_SIZE - 1);
	qsort(spec->drains, spec->drain_count, sizeof(*spec->drains), by_uid);
}

void balancer_drain_remove(struct balancer_spec *spec, const char *uid)
{
	struct balancer_drain *found = balancer_drain_find(spec, uid);
	size_t at = found ? (size_t) (found - spec->drains) : 0;

	if (!found)
		return;
	spec->drain_count--;
	memmove(found, found + 1, (spec->drain_count - at) * sizeof(*found));
}

/* ---- the status ---- */

static int member_status_decode(const json_t *item, struct balancer_member_status *member,
				struct error *err)
{
	struct json_reader in = { .err = err, .where = "status.members" };
	unsigned int health = HEALTH_NONE;

	copy_text(&in, item, "instance", sizeof(member->instance), member->instance);
	copy_text(&in, item, "address", sizeof(member->address), member->address);
	member_read_enum(&in, item, "health", health_state_names, &health);
	json_read_bool(&in, item, "draining", &member->draining);
	json_read_bool(&in, item, "drained", &member->drained);
	json_read_uint32(&in, item, "connections", UINT32_MAX, &member->connections);
	json_read_uint32(&in, item, "weight", UINT32_MAX, &member->weight);
	copy_text(&in, item, "why", sizeof(member->why), member->why);
	member->health = health;
	return json_reader_finish(&in, item);
}

int balancer_status_decode(const json_t *object, struct balancer_status *status, struct error *err)
{
	struct json_reader in = { .err = err, .where = "status" };
	unsigned int state = status->state;
	json_t *array = NULL, *item;
	size_t count, i;

	json_read_uint64(&in, object, "generation", &status->generation);
	member_read_enum(&in, object, "state", state_names, &state);
	member_read_text(&in, object, "error", ERROR_MAX_BYTES, &status->error);
	count = read_array(&in, object, "members", &array);
	if (json_reader_finish(&in, object) < 0)
		return in.result;
	status->state = state;
	free(status->members);
	status->members = count > 0 ? mem_new0_array(struct balancer_member_status, count) : NULL;
	status->member_count = count;
	if (count == 0)
		return 0;
	json_array_foreach(array, i, item)
	{
		int r = member_status_decode(item, &status->members[i], err);

		if (r < 0)
			return r;
	}
	return 0;
}

json_t *balancer_status_encode(const struct balancer_status *status)
{
	json_t *object = json_object(), *array = json_array();

	member_put_uint(object, "generation", status->generation);
	json_put_string(object, "state", state_names[status->state]);
	json_put_string(object, "error", status->error);
	for (size_t i = 0; i < status->member_count; i++) {
		const struct balancer_member_status *member = &status->members[i];
		json_t *item = json_object();

		json_put_string(item, "instance", member->instance);
		json_put_string(item, "address", member->address);
		json_put_string(item, "health", health_state_names[member->health]);
		if (member->draining)
			json_object_set_new(item, "draining", json_true());
		if (member->drained)
			json_object_set_new(item, "drained", json_true());
		member_put_uint(item, "connections", member->connections);
		member_put_uint(item, "weight", member->weight);
		json_put_string(item, "why", member->why);
		json_array_append_new(array, item);
	}
	json_object_set_new(object, "members", array);
	return object;
}

void balancer_status_done(struct balancer_status *status)
{
	free(status->error);
	free(status->members);
	*status = (struct balancer_status){};
}
