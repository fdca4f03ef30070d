#include "model/group.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/json_merge.h"
#include "base/mem.h"
#include "model/member.h"

enum { TEXT_MAX_BYTES = 256, ERROR_MAX_BYTES = 1024, PORT_MAX = 65535, PATH_SIZE = 64 };

const char *const security_protocol_names[] = { "any", "tcp", "udp", "icmp", NULL };
static const char *const way_names[] = { "ingress", "egress", NULL };
static const char *const state_names[] = { "pending", "ready", "failed", "gone", NULL };

/* ---- ports ---- */

static int parse_port(const char *text, size_t size, uint16_t *ret)
{
	unsigned int port = 0;

	if (size == 0 || size > 5)
		return -EINVAL;
	for (size_t i = 0; i < size; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		port = port * 10 + (unsigned int) (text[i] - '0');
	}
	if (port < 1 || port > PORT_MAX)
		return -EINVAL;
	*ret = (uint16_t) port;
	return 0;
}

/* "80" or "8000-8080"; `what` names the place in messages. */
static int parse_ports(const char *text, const char *what, struct security_rule *rule,
		       struct error *err)
{
	const char *dash = strchr(text, '-');
	size_t size = dash ? (size_t) (dash - text) : strlen(text);
	uint16_t first = 0, last = 0;

	if (parse_port(text, size, &first) < 0 ||
	    (dash && parse_port(dash + 1, strlen(dash + 1), &last) < 0))
		return error_say(err, -EINVAL,
				 "%s: \"%.32s\" must be a port from 1 to %d like 80, or a range "
				 "like 8000-8080",
				 what, text, PORT_MAX);
	if (dash && last < first)
		return error_say(err, -EINVAL,
				 "%s: \"%.32s\" begins above its end, did you mean %u-%u?", what,
				 text, last, first);
	rule->port = first;
	rule->last_port = dash ? last : first;
	return 0;
}

static void format_ports(const struct security_rule *rule, char ret[SECURITY_PORTS_SIZE])
{
	if (rule->last_port > rule->port)
		snprintf(ret, SECURITY_PORTS_SIZE, "%u-%u", rule->port, rule->last_port);
	else
		snprintf(ret, SECURITY_PORTS_SIZE, "%u", rule->port);
}

static bool has_ports(enum security_protocol protocol)
{
	return protocol == SECURITY_TCP || protocol == SECURITY_UDP;
}

int security_rule_parse(const char *text, struct security_rule *ret, struct error *err)
{
	struct security_rule rule = {};
	const char *colon = strchr(text, ':');
	AUTO(free)
	char *name = colon ? mem_strndup(text, (size_t) (colon - text)) : mem_strdup(text);
	int protocol = member_enum_index(security_protocol_names, name), r = 0;

	if (protocol < 0)
		return error_say(err, -EINVAL,
				 "\"%.32s\" is not known, use tcp, tcp:PORT, tcp:FIRST-LAST, udp "
				 "likewise, icmp or any",
				 text);
	rule.protocol = (enum security_protocol) protocol;
	if (colon && !has_ports(rule.protocol))
		return error_say(err, -EINVAL, "\"%.32s\": %s has no ports, only tcp and udp have",
				 text, name);
	if (colon)
		r = parse_ports(colon + 1, name, &rule, err);
	if (r == 0)
		*ret = rule;
	return r;
}

void security_rule_format(const struct security_rule *rule, char ret[SECURITY_TEXT_SIZE])
{
	char ports[SECURITY_PORTS_SIZE];

	format_ports(rule, ports);
	snprintf(ret, SECURITY_TEXT_SIZE, "%s%s%s", security_protocol_names[rule->protocol],
		 rule->port ? ":" : "", rule->port ? ports : "");
}

/* ---- rules ---- */

static void read_ports(struct json_reader *in, const json_t *object, struct security_rule *rule)
{
	char path[MEMBER_PATH_MAX];
	AUTO(free) char *text = NULL;

	json_read_string(in, object, "ports", &text);
	if (in->result < 0 || !text || !text[0])
		return;
	if (!has_ports(rule->protocol))
		member_fail(in, "ports", "protocol %s has none, only tcp and udp have",
			    security_protocol_names[rule->protocol]);
	else
		in->result =
			parse_ports(text, member_path(path, in->where, "ports"), rule, in->err);
}

static void read_group(struct json_reader *in, const json_t *object, const char *name, bool user,
		       struct security_rule *rule)
{
	char path[MEMBER_PATH_MAX], inner_path[MEMBER_PATH_MAX];
	struct json_reader inner = { .err = in->err };
	AUTO(free) char *text = NULL;

	inner.where = member_path(path, in->where, name);
	json_read_string(&inner, object, "group", &text);
	if (!user)
		member_read_uid(&inner, object, "uid", rule->group_uid);
	if (inner.result == 0 && json_object_get(object, "cidr"))
		member_fail(&inner, "cidr",
			    "is written without braces, and a rule is for addresses or for a "
			    "group, not both");
	if (inner.result == 0 && !text)
		member_fail(&inner, "group", "must name a group");
	if (inner.result == 0)
		inner.result =
			name_check(text, member_path(inner_path, inner.where, "group"), in->err);
	if (inner.result == 0)
		snprintf(rule->group, sizeof(rule->group), "%s", text);
	in->result = json_reader_finish(&inner, object);
}

/* "10.0.0.0/8", {"group": NAME}, or nothing: anybody. */
static void read_other_end(struct json_reader *in, const json_t *object, const char *name,
			   bool user, struct security_rule *rule)
{
	char path[MEMBER_PATH_MAX];
	struct subnet subnet;
	json_t *value = NULL;

	json_read_any(in, object, name, &value);
	if (in->result < 0 || !value || json_is_null(value))
		return;
	if (json_is_object(value)) {
		read_group(in, value, name, user, rule);
		return;
	}
	if (!json_is_string(value)) {
		member_fail(in, name,
			    "must be a range of addresses like \"10.0.0.0/8\", or {\"group\": "
			    "NAME}");
		return;
	}
	in->result = subnet_parse(json_string_value(value), 0, member_path(path, in->where, name),
				  &subnet, in->err);
	if (in->result == 0)
		subnet_format(&subnet, rule->cidr);
}

/* `skip`: a member that the caller has read. */
static int decode_rule(const json_t *object, const char *where, bool ingress, bool user,
		       const char *skip, struct security_rule *ret, struct error *err)
{
	struct json_reader in = { .err = err, .where = where };
	const char *end = ingress ? "from" : "to", *wrong = ingress ? "to" : "from";
	struct security_rule rule = {};
	AUTO(free) char *description = NULL;
	unsigned int protocol = SECURITY_ANY;

	if (!json_is_object(object))
		return error_say(err, -EINVAL, "%s: must be an object like {\"protocol\": \"tcp\"}",
				 where);
	if (skip)
		json_read_any(&in, object, skip, NULL);
	member_read_enum(&in, object, "protocol", security_protocol_names, &protocol);
	rule.protocol = protocol;
	read_ports(&in, object, &rule);
	if (in.result == 0 && json_object_get(object, wrong))
		member_fail(&in, wrong, "is not known for %s rules, use \"%s\"",
			    way_names[!ingress], end);
	read_other_end(&in, object, end, user, &rule);
	member_read_text(&in, object, "description", TEXT_MAX_BYTES, &description);
	if (json_reader_finish(&in, object) < 0)
		return in.result;
	rule.description = TAKE_PTR(description);
	*ret = rule;
	return 0;
}

/* `uids`: also what control has added. */
static json_t *encode_rule(const struct security_rule *rule, bool ingress, bool uids)
{
	json_t *object = json_object(), *group;
	char ports[SECURITY_PORTS_SIZE];

	json_put_string(object, "protocol", security_protocol_names[rule->protocol]);
	format_ports(rule, ports);
	if (rule->port)
		json_put_string(object, "ports", ports);
	json_put_string(object, ingress ? "from" : "to", rule->cidr);
	if (rule->group[0]) {
		group = json_pack("{s:s}", "group", rule->group);
		json_put_string(group, "uid", uids ? rule->group_uid : NULL);
		json_object_set_new(object, ingress ? "from" : "to", group);
	}
	json_put_string(object, "description", rule->description);
	return object;
}

json_t *security_rule_encode(const struct security_rule *rule, bool ingress)
{
	return encode_rule(rule, ingress, false);
}

static void rules_done(struct security_rules *rules)
{
	for (size_t i = 0; i < rules->count; i++)
		free(rules->list[i].description);
	free(rules->list);
	*rules = (struct security_rules){};
}
static inline void rules_done_autop(struct security_rules *rules)
{
	rules_done(rules);
}

static void rules_append(struct security_rules *rules, const struct security_rule *rule)
{
	rules->list = mem_realloc(rules->list, rules->count + 1, sizeof(*rules->list));
	rules->list[rules->count++] = *rule;
}

static void rules_remove(struct security_rules *rules, size_t at)
{
	free(rules->list[at].description);
	rules->count--;
	memmove(&rules->list[at], &rules->list[at + 1], (rules->count - at) * sizeof(*rules->list));
}

static int say_too_many(const char *way, struct error *err)
{
	return error_say(err, -EINVAL, "%s: a group can have %d rules at most", way,
			 SECURITY_RULES_MAX);
}

static void read_rules(struct json_reader *in, const json_t *object, bool ingress, bool user,
		       struct security_rules *ret, bool *ret_given)
{
	const char *name = way_names[!ingress];
	AUTO(rules_done) struct security_rules rules = {};
	json_t *array = NULL, *item;
	char path[PATH_SIZE];
	size_t i;

	json_read_array(in, object, name, &array);
	if (in->result < 0 || !array)
		return;
	if (json_array_size(array) > SECURITY_RULES_MAX) {
		in->result = say_too_many(name, in->err);
		return;
	}
	json_array_foreach(array, i, item)
	{
		struct security_rule rule;

		snprintf(path, sizeof(path), "%s%s%s[%zu]", in->where ? in->where : "",
			 in->where && in->where[0] ? "." : "", name, i);
		in->result = decode_rule(item, path, ingress, user, NULL, &rule, in->err);
		if (in->result < 0)
			return;
		rules_append(&rules, &rule);
	}
	rules_done(ret);
	*ret = rules;
	rules = (struct security_rules){};
	*ret_given = true;
}

static void rules_copy(struct security_rules *to, const struct security_rules *from)
{
	struct security_rules copy = {};

	for (size_t i = 0; i < from->count; i++) {
		struct security_rule rule = from->list[i];

		rule.description = mem_strdup(rule.description);
		rules_append(&copy, &rule);
	}
	*to = copy;
}

static json_t *encode_rules(const struct security_rules *rules, bool ingress, bool uids)
{
	json_t *array = json_array();

	for (size_t i = 0; i < rules->count; i++)
		json_array_append_new(array, encode_rule(&rules->list[i], ingress, uids));
	return array;
}

/* ---- the spec ---- */

static int read_spec(struct json_reader *in, const json_t *object, bool user,
		     struct security_group_spec *spec)
{
	bool ignored;

	read_rules(in, object, true, user, &spec->ingress, &ignored);
	read_rules(in, object, false, user, &spec->egress, &spec->egress_limited);
	member_read_text(in, object, "description", TEXT_MAX_BYTES, &spec->description);
	return in->result;
}

int security_group_spec_read_user(struct json_reader *in, const json_t *object,
				  struct security_group_spec *spec)
{
	return read_spec(in, object, true, spec);
}

static int decode_spec(const json_t *object, struct security_group_spec *spec, struct error *err)
{
	struct json_reader in = { .err = err, .where = "spec" };

	read_spec(&in, object, false, spec);
	member_read_text(&in, object, "node", TEXT_MAX_BYTES, &spec->node);
	return json_reader_finish(&in, object);
}

static void put_spec(json_t *object, const struct security_group_spec *spec, bool uids)
{
	json_object_set_new(object, "ingress", encode_rules(&spec->ingress, true, uids));
	if (spec->egress_limited)
		json_object_set_new(object, "egress", encode_rules(&spec->egress, false, uids));
	json_put_string(object, "description", spec->description);
}

void security_group_spec_put_user(json_t *object, const struct security_group_spec *spec)
{
	put_spec(object, spec, false);
}

json_t *security_group_spec_encode(const struct security_group_spec *spec)
{
	json_t *object = json_object();

	put_spec(object, spec, true);
	json_put_string(object, "node", spec->node);
	return object;
}

void security_group_spec_copy(struct security_group_spec *to,
			      const struct security_group_spec *from)
{
	struct security_group_spec copy = *from;

	rules_copy(&copy.ingress, &from->ingress);
	rules_copy(&copy.egress, &from->egress);
	copy.description = mem_strdup(from->description);
	copy.node = mem_strdup(from->node);
	*to = copy;
}

void security_group_spec_done(struct security_group_spec *spec)
{
	rules_done(&spec->ingress);
	rules_done(&spec->egress);
	free(spec->description);
	free(spec->node);
	*spec = (struct security_group_spec){};
}

/* ---- changes ---- */

static int replace(struct security_group_spec *spec, const json_t *body, struct error *err)
{
	AUTO(security_group_spec_done) struct security_group_spec given = {};
	struct json_reader in = { .err = err };

	security_group_spec_read_user(&in, body, &given);
	if (json_reader_finish(&in, body) < 0)
		return in.result;
	given.node = TAKE_PTR(spec->node);
	security_group_spec_done(spec);
	*spec = given;
	given = (struct security_group_spec){};
	return 0;
}

static int patch(struct security_group_spec *spec, const json_t *body, struct error *err)
{
	AUTO(json_decref) json_t *merged = json_object();

	if (!json_is_object(body))
		return error_say(err, -EINVAL, "the change must be an object");
	security_group_spec_put_user(merged, spec);
	json_merge(merged, body);
	return replace(spec, merged, err);
}

static int add(struct security_group_spec *spec, const json_t *body, struct error *err)
{
	struct json_reader in = { .err = err };
	unsigned int way = 0;
	struct security_rule rule;
	struct security_rules *rules;
	int r;

	if (!json_is_object(body))
		return error_say(err, -EINVAL, "the rule must be an object");
	member_read_enum(&in, body, "way", way_names, &way);
	if (in.result == 0 && !json_object_get(body, "way"))
		member_fail(&in, "way", "must be ingress or egress");
	if (in.result < 0)
		return in.result;
	r = decode_rule(body, "", way == 0, true, "way", &rule, err);
	if (r < 0)
		return r;
	rules = way == 0 ? &spec->ingress : &spec->egress;
	rules_append(rules, &rule);
	spec->egress_limited = spec->egress_limited || way == 1;
	return rules->count > SECURITY_RULES_MAX ? say_too_many(way_names[way], err) : 0;
}

/* The last egress rule that goes leaves a list without rules: nothing goes out then. */
static int remove_rule(struct security_group_spec *spec, const json_t *body, struct error *err)
{
	struct json_reader in = { .err = err };
	size_t count = spec->ingress.count + spec->egress.count;
	int64_t number = 0;

	json_read_int(&in, body, "number", 1, INT32_MAX, &number);
	if (json_reader_finish(&in, body) < 0)
		return in.result;
	if (number == 0)
		return error_say(err, -EINVAL, "number: says which rule goes");
	if ((uint64_t) number > count)
		return error_say(err, -ENOENT, "there is no rule %lld, %s%zu%s", (long long) number,
				 count ? "the last one is " : "the group has ", count,
				 count ? "" : " rules");
	if ((uint64_t) number <= spec->ingress.count)
		rules_remove(&spec->ingress, (size_t) number - 1);
	else
		rules_remove(&spec->egress, (size_t) number - spec->ingress.count - 1);
	return 0;
}

int security_group_change(struct security_group_spec *spec, enum security_group_change change,
			  const json_t *body, struct error *err)
{
	switch (change) {
	case SECURITY_GROUP_REPLACE:
		return replace(spec, body, err);
	case SECURITY_GROUP_PATCH:
		return patch(spec, body, err);
	case SECURITY_GROUP_ADD:
		return add(spec, body, err);
	case SECURITY_GROUP_REMOVE:
		break;
	}
	return remove_rule(spec, body, err);
}

/* ---- status and the whole ---- */

int security_group_status_decode(const json_t *object, struct security_group_status *status,
				 struct error *err)
{
	struct json_reader in = { .err = err, .where = "status" };
	unsigned int state = status->state;

	json_read_uint64(&in, object, "generation", &status->generation);
	member_read_enum(&in, object, "state", state_names, &state);
	member_read_text(&in, object, "error", ERROR_MAX_BYTES, &status->error);
	if (json_reader_finish(&in, object) < 0)
		return in.result;
	status->state = state;
	return 0;
}

json_t *security_group_status_encode(const struct security_group_status *status)
{
	json_t *object = json_object();

	member_put_uint(object, "generation", status->generation);
	json_put_string(object, "state", state_names[status->state]);
	json_put_string(object, "error", status->error);
	return object;
}

void security_group_status_done(struct security_group_status *status)
{
	free(status->error);
	*status = (struct security_group_status){};
}

int security_group_decode(const json_t *doc, struct security_group **ret, struct error *err)
{
	AUTO(security_group_free) struct security_group *group = mem_new0(struct security_group);
	json_t *spec = NULL, *status = NULL;
	int r = meta_decode_resource(doc, KIND_GROUP, &group->meta, &spec, &status, err);

	if (r == 0 && spec)
		r = decode_spec(spec, &group->spec, err);
	if (r == 0 && status)
		r = security_group_status_decode(status, &group->status, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(group);
	return 0;
}

json_t *security_group_encode(const struct security_group *group, unsigned int parts)
{
	return meta_encode_resource(
		KIND_GROUP, &group->meta, security_group_spec_encode(&group->spec),
		parts & ENCODE_STATUS ? security_group_status_encode(&group->status) : NULL);
}

void security_group_free(struct security_group *group)
{
	if (!group)
		return;
	meta_done(&group->meta);
	security_group_spec_done(&group->spec);
	security_group_status_done(&group->status);
	free(group);
}
