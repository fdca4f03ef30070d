#include "model/port_limits.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "model/member.h"
#include "model/quantity.h"

/* The least that carries a frame in a second or two, and the most that anybody's wire has. */
#define RATE_MIN UINT64_C(8000)
#define RATE_MAX UINT64_C(1000000000000)

enum { BURST_MIN = 2048, BURST_MAX = 64 << 20 };

static const struct member {
	const char *text, *json;
	size_t offset;
	uint64_t min, max;
} members[] = {
	{ "ingress", "ingress_bps", offsetof(struct port_limits, ingress_bps), RATE_MIN, RATE_MAX },
	{ "egress", "egress_bps", offsetof(struct port_limits, egress_bps), RATE_MIN, RATE_MAX },
	{ "burst", "burst_bytes", offsetof(struct port_limits, burst_bytes), BURST_MIN, BURST_MAX },
};

static uint64_t *value_of(const struct member *member, const struct port_limits *limits)
{
	return (uint64_t *) (void *) ((char *) limits + member->offset);
}

static const struct member *find(const char *name, size_t size)
{
	for (size_t i = 0; i < ARRAY_COUNT(members); i++)
		if (strlen(members[i].text) == size && memcmp(members[i].text, name, size) == 0)
			return &members[i];
	return NULL;
}

static bool is_burst(const struct member *member)
{
	return member->offset == offsetof(struct port_limits, burst_bytes);
}

static bool is_allowed(const struct member *member, uint64_t value)
{
	return value == 0 || (value >= member->min && value <= member->max);
}

static const char *range(const struct member *member)
{
	return is_burst(member) ? "from 2K to 64M" : "from 8K to 1T bits a second";
}

bool port_limits_equal(const struct port_limits *a, const struct port_limits *b)
{
	return a->ingress_bps == b->ingress_bps && a->egress_bps == b->egress_bps &&
	       a->burst_bytes == b->burst_bytes;
}

bool port_limits_any(const struct port_limits *limits)
{
	return limits->ingress_bps > 0 || limits->egress_bps > 0;
}

bool port_limits_knows(const char *name, size_t size)
{
	return find(name, size) != NULL;
}

int port_limits_parse(const char *name, const char *value, struct port_limits *limits,
		      struct error *err)
{
	const struct member *member = find(name, strcspn(name, "="));
	uint64_t number = 0;
	int r = 0;

	if (strcmp(value, "none") != 0)
		r = is_burst(member) ? memory_parse(value, member->text, &number, err)
				     : rate_parse(value, member->text, &number, err);
	if (r < 0)
		return r;
	if (!is_allowed(member, number))
		return error_say(err, -EINVAL, "%s \"%.64s\" must be %s, or 0 for none",
				 member->text, value, range(member));
	if (*value_of(member, limits) > 0)
		return error_say(err, -EINVAL, "%s is given twice", member->text);
	*value_of(member, limits) = number;
	return 0;
}

int port_limits_check(const struct port_limits *limits, const char *where, struct error *err)
{
	if (limits->burst_bytes == 0 || port_limits_any(limits))
		return 0;
	return error_say(err, -EINVAL, "%s: goes with a rate, ingress or egress", where);
}

void port_limits_read(struct json_reader *in, const json_t *port, struct port_limits *limits)
{
	const json_t *given = json_object_get(port, "limits");
	char path[MEMBER_PATH_MAX], inner_path[MEMBER_PATH_MAX];
	json_t *object = NULL;

	if (json_is_null(given))
		*limits = (struct port_limits){};
	json_read_object(in, port, "limits", &object);
	if (in->result < 0 || !object)
		return;
	struct json_reader inner = { .err = in->err,
				     .where = member_path(path, in->where, "limits") };
	for (size_t i = 0; i < ARRAY_COUNT(members); i++) {
		uint64_t *value = value_of(&members[i], limits);

		if (json_is_null(json_object_get(object, members[i].json)))
			*value = 0;
		json_read_uint64(&inner, object, members[i].json, value);
		if (inner.result == 0 && !is_allowed(&members[i], *value))
			member_fail(&inner, members[i].json, "must be %s, or 0 for none",
				    range(&members[i]));
	}
	/* The last rate takes the burst with it. */
	if (!port_limits_any(limits) && !json_object_get(object, "burst_bytes"))
		limits->burst_bytes = 0;
	if (json_reader_finish(&inner, object) == 0)
		inner.result = port_limits_check(
			limits, member_path(inner_path, path, "burst_bytes"), in->err);
	if (inner.result < 0)
		in->result = inner.result;
}

void port_limits_put(json_t *port, const struct port_limits *limits)
{
	json_t *object;

	if (!port_limits_any(limits))
		return;
	object = json_object();
	for (size_t i = 0; i < ARRAY_COUNT(members); i++)
		member_put_uint(object, members[i].json, *value_of(&members[i], limits));
	json_object_set_new(port, "limits", object);
}

json_t *port_limits_patch(const struct port_limits *limits)
{
	json_t *object = json_object();

	for (size_t i = 0; i < ARRAY_COUNT(members); i++)
		json_object_set_new(object, members[i].json,
				    json_integer((json_int_t) *value_of(&members[i], limits)));
	return object;
}
