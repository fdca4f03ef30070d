#include "base/json.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/strv.h"

int json_parse(const char *text, size_t size, size_t max_bytes, json_t **ret, struct error *err)
{
	json_error_t json_err;
	json_t *value;

	if (size > max_bytes)
		return error_say(err, -EFBIG, "JSON of %zu bytes, at most %zu are allowed", size,
				 max_bytes);
	value = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &json_err);
	if (!value)
		return error_say(err, -EINVAL, "not valid JSON: line %d column %d: %s",
				 json_err.line, json_err.column, json_err.text);
	*ret = value;
	return 0;
}

static int fail(struct json_reader *in, int code, const char *name, const char *want)
{
	const char *dot = in->where && in->where[0] ? "." : "";

	in->result =
		error_say(in->err, code, "%s%s%s: %s", in->where ? in->where : "", dot, name, want);
	return in->result;
}

/* The member, or NULL when the reader has failed or the member is absent or null. */
static json_t *member(struct json_reader *in, const json_t *object, const char *name)
{
	json_t *value;

	if (in->result < 0)
		return NULL;
	if (!json_is_object(object)) {
		in->result = error_say(in->err, -EINVAL, "%s: must be an object",
				       in->where && in->where[0] ? in->where : "document");
		return NULL;
	}
	if (in->count < JSON_READ_MAX)
		in->known[in->count++] = name;
	value = json_object_get(object, name);
	return json_is_null(value) ? NULL : value;
}

int json_read_string(struct json_reader *in, const json_t *object, const char *name, char **ret)
{
	json_t *value = member(in, object, name);

	if (!value)
		return in->result;
	if (!json_is_string(value))
		return fail(in, -EINVAL, name, "must be a string");
	if (strlen(json_string_value(value)) != json_string_length(value))
		return fail(in, -EINVAL, name, "must not contain a NUL character");
	mem_replace(ret, json_string_value(value));
	return 0;
}

int json_read_bool(struct json_reader *in, const json_t *object, const char *name, bool *ret)
{
	json_t *value = member(in, object, name);

	if (!value)
		return in->result;
	if (!json_is_boolean(value))
		return fail(in, -EINVAL, name, "must be true or false");
	*ret = json_is_true(value);
	return 0;
}

int json_read_int(struct json_reader *in, const json_t *object, const char *name, int64_t min,
		  int64_t max, int64_t *ret)
{
	json_t *value = member(in, object, name);
	char want[96];

	if (!value)
		return in->result;
	if (!json_is_integer(value) || json_integer_value(value) < min ||
	    json_integer_value(value) > max) {
		snprintf(want, sizeof(want), "must be a whole number from %lld to %lld",
			 (long long) min, (long long) max);
		return fail(in, -EINVAL, name, want);
	}
	*ret = json_integer_value(value);
	return 0;
}

int json_read_uint32(struct json_reader *in, const json_t *object, const char *name, uint32_t max,
		     uint32_t *ret)
{
	int64_t value = *ret;
	int r = json_read_int(in, object, name, 0, max, &value);

	if (r == 0)
		*ret = (uint32_t) value;
	return r;
}

int json_read_uint64(struct json_reader *in, const json_t *object, const char *name, uint64_t *ret)
{
	json_t *value = member(in, object, name);

	if (!value)
		return in->result;
	/* 2^64-1 does not fit JSON's integers here; specs that allow it write it as a real. */
	if (json_is_real(value) && json_real_value(value) >= 0 && json_real_value(value) < 0x1p64 &&
	    floor(json_real_value(value)) == json_real_value(value)) {
		*ret = (uint64_t) json_real_value(value);
		return 0;
	}
	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return fail(in, -EINVAL, name, "must be a whole number of at least 0");
	*ret = (uint64_t) json_integer_value(value);
	return 0;
}

int json_read_number(struct json_reader *in, const json_t *object, const char *name, double *ret)
{
	json_t *value = member(in, object, name);

	if (!value)
		return in->result;
	if (!json_is_number(value))
		return fail(in, -EINVAL, name, "must be a number");
	*ret = json_number_value(value);
	return 0;
}

int json_read_strv(struct json_reader *in, const json_t *object, const char *name, char ***ret)
{
	AUTO(strv_free) char **strv = NULL;
	json_t *value = member(in, object, name);
	json_t *item;
	size_t i;

	if (!value)
		return in->result;
	if (!json_is_array(value))
		return fail(in, -EINVAL, name, "must be a list of strings");
	strv = mem_new0(char *);
	json_array_foreach(value, i, item)
	{
		if (!json_is_string(item) ||
		    strlen(json_string_value(item)) != json_string_length(item))
			return fail(in, -EINVAL, name, "must be a list of strings");
		strv_append(&strv, json_string_value(item));
	}
	strv_free(*ret);
	*ret = TAKE_PTR(strv);
	return 0;
}

int json_read_object(struct json_reader *in, const json_t *object, const char *name, json_t **ret)
{
	json_t *value = member(in, object, name);

	if (!value)
		return in->result;
	if (!json_is_object(value))
		return fail(in, -EINVAL, name, "must be an object");
	*ret = value;
	return 0;
}

int json_read_array(struct json_reader *in, const json_t *object, const char *name, json_t **ret)
{
	json_t *value = member(in, object, name);

	if (!value)
		return in->result;
	if (!json_is_array(value))
		return fail(in, -EINVAL, name, "must be a list");
	*ret = value;
	return 0;
}

void json_read_any(struct json_reader *in, const json_t *object, const char *name, json_t **ret)
{
	json_t *value = member(in, object, name);

	if (value && ret)
		*ret = value;
}

int json_read_time(struct json_reader *in, const json_t *object, const char *name,
		   int64_t *ret_realtime_ms)
{
	AUTO(free) char *text = NULL;
	int r = json_read_string(in, object, name, &text);

	if (r < 0 || !text || !text[0])
		return r;
	if (clock_parse_rfc3339(text, ret_realtime_ms) < 0)
		return fail(in, -EINVAL, name, "must be a time like 2026-01-31T12:00:00Z");
	return 0;
}

int json_reader_finish(struct json_reader *in, const json_t *object)
{
	const char *name;
	json_t *value;

	if (in->result < 0)
		return in->result;
	json_object_foreach((json_t *) object, name, value)
	{
		unsigned int i = 0;

		while (i < in->count && strcmp(in->known[i], name) != 0)
			i++;
		if (i == in->count)
			return fail(in, -EINVAL, name, "is not known");
	}
	return 0;
}

char *json_text(const json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);

	if (!text)
		abort();
	return text;
}

void json_put_string(json_t *object, const char *name, const char *value)
{
	if (value && value[0])
		json_object_set_new(object, name, json_string(value));
}

void json_put_time(json_t *object, const char *name, int64_t realtime_ms)
{
	char text[CLOCK_RFC3339_SIZE];

	clock_format_rfc3339(realtime_ms, text);
	json_put_string(object, name, text);
}

void json_put_strv(json_t *object, const char *name, char *const *strv)
{
	json_t *array;

	if (!strv)
		return;
	array = json_array();
	for (size_t i = 0; strv[i]; i++)
		json_array_append_new(array, json_string(strv[i]));
	json_object_set_new(object, name, array);
}
