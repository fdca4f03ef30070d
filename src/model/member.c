#include "model/member.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"

const char *member_path(char buf[MEMBER_PATH_MAX], const char *where, const char *name)
{
	snprintf(buf, MEMBER_PATH_MAX, "%s%s%s", where ? where : "", where && where[0] ? "." : "",
		 name);
	return buf;
}

int member_fail(struct json_reader *in, const char *name, const char *fmt, ...)
{
	char path[MEMBER_PATH_MAX], text[256];
	va_list ap;

	if (in->result < 0)
		return in->result;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	in->result =
		error_say(in->err, -EINVAL, "%s: %s", member_path(path, in->where, name), text);
	return in->result;
}

int member_read_text(struct json_reader *in, const json_t *object, const char *name,
		     size_t max_bytes, char **ret)
{
	AUTO(free) char *text = NULL;
	int r = json_read_string(in, object, name, &text);

	if (r < 0 || !text)
		return r;
	if (strlen(text) > max_bytes)
		return member_fail(in, name, "is %zu bytes long, at most %zu are allowed",
				   strlen(text), max_bytes);
	free(*ret);
	*ret = TAKE_PTR(text);
	return 0;
}

bool uid_is_valid(const char *text)
{
	return text && strlen(text) == UID_SIZE - 1 &&
	       strspn(text, "0123456789abcdef") == UID_SIZE - 1;
}

int member_read_uid(struct json_reader *in, const json_t *object, const char *name,
		    char ret[UID_SIZE])
{
	AUTO(free) char *text = NULL;
	int r = json_read_string(in, object, name, &text);

	if (r < 0 || !text || !text[0])
		return r;
	if (!uid_is_valid(text))
		return member_fail(in, name, "must be 32 lower-case hex digits");
	memcpy(ret, text, UID_SIZE);
	return 0;
}

int member_enum_index(const char *const *names, const char *text)
{
	for (int i = 0; names[i]; i++)
		if (text && strcmp(names[i], text) == 0)
			return i;
	return -EINVAL;
}

int member_read_enum(struct json_reader *in, const json_t *object, const char *name,
		     const char *const *names, unsigned int *ret)
{
	AUTO(strbuf_done) struct strbuf want = {};
	AUTO(free) char *text = NULL;
	int r = json_read_string(in, object, name, &text);

	if (r < 0 || !text)
		return r;
	r = member_enum_index(names, text);
	if (r >= 0) {
		*ret = (unsigned int) r;
		return 0;
	}
	for (int i = 0; names[i]; i++)
		strbuf_printf(&want, "%s\"%s\"", i == 0 ? "" : ", ", names[i]);
	return member_fail(in, name, "must be one of %s", strbuf_str(&want));
}

int member_read_map(struct json_reader *in, const json_t *object, const char *name, char ***ret)
{
	AUTO(strv_free) char **map = NULL;
	json_t *value = NULL, *item;
	const char *key;

	json_read_object(in, object, name, &value);
	if (in->result < 0 || !value)
		return in->result;
	json_object_foreach(value, key, item)
	{
		if (!key[0] || strchr(key, '=') || strlen(key) > 4096)
			return member_fail(in, name,
					   "has a key that is empty, too long or contains '='");
		if (!json_is_string(item) ||
		    strlen(json_string_value(item)) != json_string_length(item))
			return member_fail(in, name, "must have strings as values (\"%.64s\")",
					   key);
		strv_append_take(&map, mem_printf("%s=%s", key, json_string_value(item)));
	}
	strv_free(*ret);
	*ret = TAKE_PTR(map);
	return 0;
}

void member_put_map(json_t *object, const char *name, char *const *map)
{
	json_t *value;

	if (!map || !map[0])
		return;
	value = json_object();
	for (size_t i = 0; map[i]; i++) {
		const char *equals = strchr(map[i], '=');
		AUTO(free) char *key = mem_strndup(map[i], (size_t) (equals - map[i]));
		json_object_set_new(value, key, json_string(equals + 1));
	}
	json_object_set_new(object, name, value);
}

void member_put_uint(json_t *object, const char *name, uint64_t value)
{
	if (value > 0)
		json_object_set_new(object, name, json_integer((json_int_t) value));
}
