#include "base/json_merge.h"

#include "base/cleanup.h"
#include "base/json.h"

void json_merge(json_t *object, const json_t *patch)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *) patch, key, value)
	{
		json_t *there = json_object_get(object, key);

		if (json_is_null(value)) {
			json_object_del(object, key);
		} else if (!json_is_object(value)) {
			json_object_set(object, key, value);
		} else {
			/* A new object, for the patch may share its own with others; nulls in it
			 * go. */
			AUTO(json_decref)
			json_t *merged = json_is_object(there) ? json_copy(there) : json_object();

			json_merge(merged, value);
			json_object_set(object, key, merged);
		}
	}
}

json_t *json_merge_undo(const json_t *object, const json_t *patch)
{
	json_t *undo = json_object(), *value;
	const char *key;

	json_object_foreach((json_t *) patch, key, value)
	{
		json_t *there = json_object_get(object, key);

		if (json_is_object(there) && json_is_object(value))
			json_object_set_new(undo, key, json_merge_undo(there, value));
		else
			json_object_set_new(undo, key, there ? json_incref(there) : json_null());
	}
	return undo;
}
