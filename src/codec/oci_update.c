#include "codec/oci_update.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "codec/oci_spec_internal.h"

/* ---- what stays as it is ---- */

static void drop_zeros(json_t *parent, const char *name, const char *const *members, size_t count)
{
	json_t *object = json_object_get(parent, name);

	for (size_t i = 0; i < count; i++) {
		const json_t *value = json_object_get(object, members[i]);

		if ((json_is_integer(value) && json_integer_value(value) == 0) ||
		    (json_is_string(value) && json_string_length(value) == 0))
			json_object_del(object, members[i]);
	}
}

/* Go's encoders write null, zero or "" for a limit that the caller did not mention. */
static void drop_unsaid(json_t *change)
{
	static const char *const memory[] = { "limit", "reservation", "swap", "kernel",
					      "kernelTCP" };
	static const char *const cpu[] = { "shares",         "quota", "period", "realtimeRuntime",
					   "realtimePeriod", "cpus",  "mems" };
	static const char *const block[] = { "weight", "leafWeight" };
	static const char *const pids[] = { "limit" };
	const char *name, *inner;
	json_t *value, *member;
	void *next, *next_inner;

	json_object_foreach_safe(change, next, name, value)
	{
		if (json_is_null(value)) {
			json_object_del(change, name);
			continue;
		}
		json_object_foreach_safe(value, next_inner, inner, member)
		{
			if (json_is_null(member))
				json_object_del(value, inner);
		}
	}
	drop_zeros(change, "memory", memory, ARRAY_COUNT(memory));
	drop_zeros(change, "cpu", cpu, ARRAY_COUNT(cpu));
	drop_zeros(change, "blockIO", block, ARRAY_COUNT(block));
	drop_zeros(change, "pids", pids, ARRAY_COUNT(pids));
}

int oci_update_decode(const char *text, size_t size, json_t **ret, struct error *err)
{
	AUTO(oci_spec_free) struct oci_spec *checked = NULL;
	AUTO(json_decref) json_t *change = NULL;
	int r = oci_parse(text, size, &change, err);

	if (r < 0)
		return r;
	if (!json_is_object(change))
		return error_say(err, -EINVAL,
				 "must be an object like linux.resources of config.json");
	drop_unsaid(change);
	r = oci_update_resources(change, &checked, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(change);
	return 0;
}

/* ---- merging ---- */

static bool same_member(const json_t *a, const json_t *b, const char *name)
{
	const json_t *one = json_object_get(a, name), *two = json_object_get(b, name);

	return (!one && !two) || (one && two && json_equal(one, two));
}

/* Items of lists are about one device, page size or interface. */
static bool same_item(const json_t *a, const json_t *b)
{
	return same_member(a, b, "major") && same_member(a, b, "minor") &&
	       same_member(a, b, "pageSize") && same_member(a, b, "name");
}

static json_t *merge_lists(const json_t *current, const json_t *change)
{
	json_t *merged = json_copy((json_t *) change);
	json_t *item, *other;
	size_t i, j;

	json_array_foreach(current, i, item)
	{
		bool replaced = false;

		json_array_foreach(change, j, other)
		{
			replaced = replaced || same_item(item, other);
		}
		if (!replaced)
			json_array_append(merged, item);
	}
	return merged;
}

static json_t *merge_objects(const json_t *current, const json_t *change)
{
	json_t *merged = json_copy((json_t *) current);
	const char *name;
	json_t *value;

	json_object_foreach((json_t *) change, name, value)
	{
		const json_t *old = json_object_get(current, name);

		if (json_is_object(old) && json_is_object(value))
			json_object_set_new(merged, name, merge_objects(old, value));
		else if (json_is_array(old) && json_is_array(value))
			json_object_set_new(merged, name, merge_lists(old, value));
		else
			json_object_set(merged, name, value);
	}
	return merged;
}

json_t *oci_update_merge(const json_t *current, const json_t *change)
{
	AUTO(json_decref) json_t *none = json_object();

	return merge_objects(current ? current : none, change);
}

/* ---- structs ---- */

int oci_update_resources(const json_t *resources, struct oci_spec **ret, struct error *err)
{
	AUTO(oci_spec_free) struct oci_spec *spec = mem_new0(struct oci_spec);
	int r;

	/* Members must live as long as the struct; it decodes a copy that nobody changes. */
	spec->document = json_deep_copy(resources);
	r = oci_decode_resources(spec, spec->document, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(spec);
	return 0;
}

int oci_update_from_config(const char *text, size_t size, json_t **ret, struct error *err)
{
	AUTO(json_decref) json_t *document = NULL;
	json_t *found;
	int r = oci_parse(text, size, &document, err);

	if (r < 0)
		return r;
	found = json_object_get(json_object_get(document, "linux"), "resources");
	*ret = json_is_object(found) ? json_incref(found) : json_object();
	return 0;
}
