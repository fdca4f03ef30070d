#include "model/ulimit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "model/member.h"

static const char *const names[] = { "as",    "core",    "cpu",      "data",   "fsize",
				     "locks", "memlock", "msgqueue", "nice",   "nofile",
				     "nproc", "rss",     "rtprio",   "rttime", "sigpending",
				     "stack", NULL };

static int name_parse(const char *text, size_t size, const char **ret, struct error *err)
{
	AUTO(strbuf_done) struct strbuf known = {};

	for (size_t i = 0; names[i]; i++) {
		if (strlen(names[i]) == size && strncmp(names[i], text, size) == 0) {
			*ret = names[i];
			return 0;
		}
		strbuf_printf(&known, "%s%s", i ? ", " : "", names[i]);
	}
	return error_say(err, -EINVAL, "\"%.*s\" is not a limit; there are %s",
			 (int) (size < 40 ? size : 40), text, strbuf_str(&known));
}

static int value_parse(const char *text, size_t size, uint64_t *ret)
{
	uint64_t value = 0;

	if ((size == 9 && strncmp(text, "unlimited", 9) == 0) ||
	    (size == 2 && strncmp(text, "-1", 2) == 0)) {
		*ret = ULIMIT_UNLIMITED;
		return 0;
	}
	if (size == 0 || size > 18)
		return -EINVAL;
	for (size_t i = 0; i < size; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		value = value * 10 + (uint64_t) (text[i] - '0');
	}
	*ret = value;
	return 0;
}

static int check_order(const struct ulimit *limit, struct error *err)
{
	if (limit->soft <= limit->hard)
		return 0;
	return error_say(err, -EINVAL, "%s: the soft limit must not be above the hard one",
			 limit->name);
}

int ulimit_parse(const char *text, struct ulimit *ret, struct error *err)
{
	size_t size = strcspn(text, "=");
	const char *value = text[size] ? text + size + 1 : "";
	size_t soft_size = strcspn(value, ":");
	struct ulimit limit = {};
	int r = name_parse(text, size, &limit.name, err);

	if (r < 0)
		return r;
	r = value_parse(value, soft_size, &limit.soft);
	limit.hard = limit.soft;
	if (r == 0 && value[soft_size])
		r = value_parse(value + soft_size + 1, strlen(value + soft_size + 1), &limit.hard);
	if (r < 0)
		return error_say(err, r,
				 "\"%.60s\" must look like nofile=SOFT[:HARD] with numbers or "
				 "unlimited",
				 text);
	r = check_order(&limit, err);
	if (r == 0)
		*ret = limit;
	return r;
}

const char *ulimits_twice(const struct ulimit *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < i; k++)
			if (list[i].name == list[k].name)
				return list[i].name;
	return NULL;
}

/* A number, or -1 for no limit. */
static int decode_value(const json_t *value, uint64_t *ret)
{
	if (!json_is_integer(value) || json_integer_value(value) < -1)
		return -EINVAL;
	*ret = json_integer_value(value) < 0 ? ULIMIT_UNLIMITED
					     : (uint64_t) json_integer_value(value);
	return 0;
}

static int decode_one(const json_t *object, const char *where, struct ulimit *limit,
		      struct error *err)
{
	struct json_reader in = { .err = err, .where = where };
	json_t *soft = NULL, *hard = NULL;
	AUTO(free) char *name = NULL;
	int r;

	json_read_string(&in, object, "name", &name);
	json_read_any(&in, object, "soft", &soft);
	json_read_any(&in, object, "hard", &hard);
	if (json_reader_finish(&in, object) < 0)
		return in.result;
	r = name_parse(name ? name : "", name ? strlen(name) : 0, &limit->name, err);
	if (r < 0)
		return error_wrap(err, r, "%s.name", where);
	if (decode_value(soft, &limit->soft) < 0 ||
	    decode_value(hard ? hard : soft, &limit->hard) < 0)
		return error_say(err, -EINVAL, "%s: soft and hard must be numbers; -1 is no limit",
				 where);
	r = check_order(limit, err);
	return r < 0 ? error_wrap(err, r, "%s", where) : 0;
}

int ulimits_read(struct json_reader *in, const json_t *object, const char *name,
		 struct ulimit **ret, size_t *ret_count)
{
	char path[MEMBER_PATH_MAX], item_path[MEMBER_PATH_MAX + 32];
	AUTO(free) struct ulimit *list = NULL;
	json_t *array = NULL, *item;
	size_t i;

	json_read_array(in, object, name, &array);
	if (in->result < 0 || !array)
		return in->result;
	if (json_array_size(array) > ULIMITS_MAX)
		return member_fail(in, name, "at most %d limits are allowed", ULIMITS_MAX);
	member_path(path, in->where, name);
	list = mem_new0_array(struct ulimit, json_array_size(array) + 1);
	json_array_foreach(array, i, item)
	{
		snprintf(item_path, sizeof(item_path), "%s[%zu]", path, i);
		int r = decode_one(item, item_path, &list[i], in->err);
		if (r < 0) {
			in->result = r;
			return r;
		}
	}
	if (ulimits_twice(list, json_array_size(array)))
		return member_fail(in, name, "\"%s\" is given twice",
				   ulimits_twice(list, json_array_size(array)));
	free(*ret);
	*ret = TAKE_PTR(list);
	*ret_count = json_array_size(array);
	return 0;
}

static json_t *value_json(uint64_t value)
{
	return json_integer(value == ULIMIT_UNLIMITED ? -1 : (json_int_t) value);
}

json_t *ulimits_encode(const struct ulimit *list, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(array, json_pack("{s:s, s:o, s:o}", "name", list[i].name,
						       "soft", value_json(list[i].soft), "hard",
						       value_json(list[i].hard)));
	return array;
}
