#include "model/router.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/json_merge.h"
#include "base/mem.h"
#include "base/strv.h"
#include "model/member.h"

enum { TEXT_MAX_BYTES = 256, ERROR_MAX_BYTES = 1024, PORT_MAX = 65535 };

static const char *const state_names[] = { "pending", "ready", "failed", "gone", NULL };

/* ---- one entry of each kind */

static void read_ip(struct json_reader *in, const json_t *object, const char *name, int family,
		    struct ip *ret)
{
	AUTO(free) char *text = NULL;
	struct ip ip;

	json_read_string(in, object, name, &text);
	if (in->result < 0 || !text || !text[0])
		return;
	if (ip_parse(text, &ip) < 0 || (family && ip.family != family))
		member_fail(in, name, "\"%.64s\" is not an %s address", text,
			    family == 4   ? "IPv4"
			    : family == 6 ? "IPv6"
					  : "IP");
	else
		*ret = ip;
}

static void put_ip(json_t *object, const char *name, const struct ip *ip)
{
	char text[IP_TEXT_SIZE];

	if (!ip->family)
		return;
	ip_format(ip, text);
	json_put_string(object, name, text);
}

static void read_name(struct json_reader *in, const json_t *object, const char *name,
		      char ret[PORT_NETWORK_SIZE])
{
	AUTO(free) char *text = NULL;
	char path[MEMBER_PATH_MAX];
	int r;

	json_read_string(in, object, name, &text);
	if (in->result < 0 || !text || !text[0])
		return;
	r = name_check(text, member_path(path, in->where, name), in->err);
	if (r < 0)
		in->result = r;
	else
		snprintf(ret, PORT_NETWORK_SIZE, "%s", text);
}

static void read_network(struct json_reader *in, const char *key, const json_t *value, bool user,
			 void *entry)
{
	struct router_network *network = entry;
	struct ip ipv4 = {}, ipv6 = {};
	int r = name_check(key, in->where, in->err);

	if (r < 0) {
		in->result = r;
		return;
	}
	snprintf(network->network, sizeof(network->network), "%s", key);
	read_ip(in, value, "ipv4", 4, &ipv4);
	read_ip(in, value, "ipv6", 6, &ipv6);
	if (!user)
		member_read_uid(in, value, "uid", network->uid);
	if (ipv4.family)
		ip_format(&ipv4, network->ipv4);
	if (ipv6.family)
		ip_format(&ipv6, network->ipv6);
}

static const char *put_network(json_t *value, const void *entry, bool user,
			       char key[ROUTER_KEY_SIZE])
{
	const struct router_network *network = entry;

	json_put_string(value, "ipv4", network->ipv4);
	json_put_string(value, "ipv6", network->ipv6);
	if (!user)
		json_put_string(value, "uid", network->uid);
	snprintf(key, ROUTER_KEY_SIZE, "%s", network->network);
	return key;
}

/* A patch finds an entry by its key, so each has one form. */
static void check_form(struct json_reader *in, const char *key, const char *right)
{
	if (in->result == 0 && strcmp(key, right) != 0)
		in->result = error_say(in->err, -EINVAL, "%s: \"%.64s\" must be written \"%s\"",
				       in->where, key, right);
}

static void read_route(struct json_reader *in, const char *key, const json_t *value, bool user,
		       void *entry)
{
	struct router_route *route = entry;
	char right[SUBNET_TEXT_SIZE];
	int r = subnet_parse(key, 0, in->where, &route->to, in->err);

	(void) user;
	if (r < 0) {
		in->result = r;
		return;
	}
	subnet_format(&route->to, right);
	check_form(in, key, right);
	read_ip(in, value, "via", route->to.base.family, &route->via);
	if (in->result == 0 && !route->via.family)
		member_fail(in, "via", "%s: the address of the next router is missing", key);
}

static const char *put_route(json_t *value, const void *entry, bool user, char key[ROUTER_KEY_SIZE])
{
	const struct router_route *route = entry;

	(void) user;
	put_ip(value, "via", &route->via);
	subnet_format(&route->to, key);
	return key;
}

static void read_target(struct json_reader *in, const json_t *value, bool user,
			struct router_target *target)
{
	read_name(in, value, "instance", target->instance);
	read_name(in, value, "network", target->network);
	read_ip(in, value, "target", 0, &target->address);
	if (target->instance[0] && target->address.family)
		member_fail(in, "target", "an instance or an address, not both");
	if (target->network[0] && !target->instance[0])
		member_fail(in, "network", "says which network of an instance, and there is none");
	if (user)
		return;
	member_read_uid(in, value, "uid", target->uid);
	read_ip(in, value, "ipv4", 4, &target->ipv4);
	read_ip(in, value, "ipv6", 6, &target->ipv6);
}

static void put_target(json_t *value, const struct router_target *target, bool user)
{
	json_put_string(value, "instance", target->instance);
	json_put_string(value, "network", target->network);
	put_ip(value, "target", &target->address);
	if (user)
		return;
	json_put_string(value, "uid", target->uid);
	put_ip(value, "ipv4", &target->ipv4);
	put_ip(value, "ipv6", &target->ipv6);
}

static void read_floating(struct json_reader *in, const char *key, const json_t *value, bool user,
			  void *entry)
{
	struct router_floating *floating = entry;
	char right[IP_TEXT_SIZE];

	if (ip_parse(key, &floating->address) < 0) {
		in->result = error_say(in->err, -EINVAL, "%s: \"%.64s\" is not an IP address",
				       in->where, key);
		return;
	}
	ip_format(&floating->address, right);
	check_form(in, key, right);
	read_target(in, value, user, &floating->target);
	if (floating->target.address.family &&
	    floating->target.address.family != floating->address.family)
		member_fail(in, "target", "%s: both addresses must be IPv4, or both IPv6", key);
}

static const char *put_floating(json_t *value, const void *entry, bool user,
				char key[ROUTER_KEY_SIZE])
{
	const struct router_floating *floating = entry;

	put_target(value, &floating->target, user);
	ip_format(&floating->address, key);
	return key;
}

static void read_forward(struct json_reader *in, const char *key, const json_t *value, bool user,
			 void *entry)
{
	struct router_forward *forward = entry;
	char right[ROUTER_KEY_SIZE];
	uint32_t port = 0;
	int r = router_forward_key_parse(key, forward, in->err);

	if (r < 0) {
		in->result = error_wrap(in->err, r, "%s", in->where);
		return;
	}
	router_forward_key(forward, right);
	check_form(in, key, right);
	json_read_uint32(in, value, "port", PORT_MAX, &port);
	forward->target_port = port ? (uint16_t) port : forward->port;
	read_target(in, value, user, &forward->target);
	if (in->result == 0 && !forward->target.instance[0] && !forward->target.address.family)
		member_fail(in, "target", "%s: an instance or an address is missing", key);
	if (forward->address.family && forward->target.address.family &&
	    forward->target.address.family != forward->address.family)
		member_fail(in, "target", "%s: both addresses must be IPv4, or both IPv6", key);
}

static const char *put_forward(json_t *value, const void *entry, bool user,
			       char key[ROUTER_KEY_SIZE])
{
	const struct router_forward *forward = entry;

	put_target(value, &forward->target, user);
	member_put_uint(value, "port", forward->target_port);
	router_forward_key(forward, key);
	return key;
}

/* ---- the lists */

struct list {
	const char *name;
	size_t size, max; /* of an entry; how many there may be */
	void (*read)(struct json_reader *in, const char *key, const json_t *value, bool user,
		     void *entry);
	const char *(*put)(json_t *value, const void *entry, bool user, char key[ROUTER_KEY_SIZE]);
};

static const struct list networks_list = { "networks", sizeof(struct router_network),
					   ROUTER_NETWORKS_MAX, read_network, put_network };
static const struct list routes_list = { "routes", sizeof(struct router_route), ROUTER_ENTRIES_MAX,
					 read_route, put_route };
static const struct list floating_list = { "floating", sizeof(struct router_floating),
					   ROUTER_ENTRIES_MAX, read_floating, put_floating };
static const struct list forwards_list = { "forwards", sizeof(struct router_forward),
					   ROUTER_ENTRIES_MAX, read_forward, put_forward };

static void *read_list(struct json_reader *in, const json_t *object, const struct list *list,
		       bool user, size_t *ret_count)
{
	AUTO(free) uint8_t *entries = NULL;
	json_t *given = NULL, *value;
	char path[MEMBER_PATH_MAX];
	const char *key;
	size_t count = 0;

	json_read_object(in, object, list->name, &given);
	if (in->result < 0 || json_object_size(given) == 0)
		return NULL;
	if (json_object_size(given) > list->max) {
		member_fail(in, list->name, "at most %zu are possible", list->max);
		return NULL;
	}
	entries = mem_new0_array(uint8_t, list->size * json_object_size(given));
	json_object_foreach(given, key, value)
	{
		struct json_reader inner = { .err = in->err,
					     .where = member_path(path, in->where, list->name) };

		if (!json_is_object(value))
			member_fail(&inner, "", "\"%.64s\" must be an object", key);
		else
			list->read(&inner, key, value, user, entries + list->size * count++);
		if (inner.result < 0 || json_reader_finish(&inner, value) < 0) {
			in->result = inner.result;
			return NULL;
		}
	}
	*ret_count = count;
	return TAKE_PTR(entries);
}

static void put_list(json_t *object, const struct list *list, const void *entries, size_t count,
		     bool user)
{
	json_t *member;

	if (count == 0)
		return;
	member = json_object();
	for (size_t i = 0; i < count; i++) {
		json_t *value = json_object();
		char key[ROUTER_KEY_SIZE];
		const char *name =
			list->put(value, (const uint8_t *) entries + list->size * i, user, key);

		json_object_set_new(member, name, value);
	}
	json_object_set_new(object, list->name, member);
}

/* ---- the spec */

void router_spec_init(struct router_spec *spec)
{
	*spec = (struct router_spec){ .uplink = true, .nat = true };
}

void router_spec_done(struct router_spec *spec)
{
	free(spec->networks);
	free(spec->routes);
	free(spec->floating);
	free(spec->forwards);
	free(spec->node);
	*spec = (struct router_spec){};
}
static inline void router_spec_done_autop(struct router_spec *spec)
{
	router_spec_done(spec);
}

/* What needs a way outside has one. */
static int check_uplink(struct json_reader *in, const struct router_spec *spec)
{
	if (spec->uplink)
		return 0;
	if (spec->floating_count)
		return member_fail(in, "floating", "a router without an uplink has no outside");
	if (spec->forward_count)
		return member_fail(in, "forwards", "a router without an uplink has no outside");
	if (spec->advertise)
		return member_fail(in, "advertise", "a router without an uplink has no outside");
	return 0;
}

static int read_spec(struct json_reader *in, const json_t *object, bool user,
		     struct router_spec *spec)
{
	json_read_bool(in, object, "uplink", &spec->uplink);
	json_read_bool(in, object, "nat", &spec->nat);
	json_read_bool(in, object, "advertise", &spec->advertise);
	spec->networks = read_list(in, object, &networks_list, user, &spec->network_count);
	spec->routes = read_list(in, object, &routes_list, user, &spec->route_count);
	spec->floating = read_list(in, object, &floating_list, user, &spec->floating_count);
	spec->forwards = read_list(in, object, &forwards_list, user, &spec->forward_count);
	if (in->result == 0)
		check_uplink(in, spec);
	if (!user) {
		read_ip(in, object, "transit", 4, &spec->transit);
		member_read_text(in, object, "node", TEXT_MAX_BYTES, &spec->node);
	}
	return in->result;
}

static void put_spec(json_t *object, const struct router_spec *spec, bool user)
{
	json_object_set_new(object, "uplink", json_boolean(spec->uplink));
	json_object_set_new(object, "nat", json_boolean(spec->nat));
	if (spec->advertise)
		json_object_set_new(object, "advertise", json_true());
	put_list(object, &networks_list, spec->networks, spec->network_count, user);
	put_list(object, &routes_list, spec->routes, spec->route_count, user);
	put_list(object, &floating_list, spec->floating, spec->floating_count, user);
	put_list(object, &forwards_list, spec->forwards, spec->forward_count, user);
	if (user)
		return;
	put_ip(object, "transit", &spec->transit);
	json_put_string(object, "node", spec->node);
}

int router_spec_decode_user(const json_t *object, struct router_spec *spec, struct error *err)
{
	struct json_reader in = { .err = err };

	read_spec(&in, object, true, spec);
	return json_reader_finish(&in, object);
}

json_t *router_spec_encode_user(const struct router_spec *spec)
{
	json_t *object = json_object();

	put_spec(object, spec, true);
	return object;
}

int router_status_decode(const json_t *object, struct router_status *status, struct error *err)
{
	struct json_reader in = { .err = err, .where = "status" };
	unsigned int state = status->state;

	json_read_uint64(&in, object, "generation", &status->generation);
	member_read_enum(&in, object, "state", state_names, &state);
	json_read_strv(&in, object, "advertised", &status->advertised);
	member_read_text(&in, object, "error", ERROR_MAX_BYTES, &status->error);
	if (json_reader_finish(&in, object) < 0)
		return in.result;
	status->state = state;
	return 0;
}

json_t *router_status_encode(const struct router_status *status)
{
	json_t *object = json_object();

	member_put_uint(object, "generation", status->generation);
	json_put_string(object, "state", state_names[status->state]);
	json_put_strv(object, "advertised", status->advertised);
	json_put_string(object, "error", status->error);
	return object;
}

void router_status_done(struct router_status *status)
{
	strv_free(status->advertised);
	free(status->error);
	*status = (struct router_status){};
}

/* ---- the resource */

int router_decode(const json_t *doc, struct router **ret, struct error *err)
{
	AUTO(router_free) struct router *router = mem_new0(struct router);
	struct json_reader in = { .err = err, .where = "spec" };
	json_t *spec, *status;
	int r;

	router_spec_init(&router->spec);
	r = meta_decode_resource(doc, KIND_ROUTER, &router->meta, &spec, &status, err);
	if (r == 0) {
		read_spec(&in, spec, false, &router->spec);
		r = json_reader_finish(&in, spec);
	}
	if (r == 0 && status)
		r = router_status_decode(status, &router->status, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(router);
	return 0;
}

json_t *router_encode(const struct router *router, unsigned int parts)
{
	json_t *spec = json_object();

	put_spec(spec, &router->spec, false);
	return meta_encode_resource(KIND_ROUTER, &router->meta, spec,
				    parts & ENCODE_STATUS ? router_status_encode(&router->status)
							  : NULL);
}

void router_free(struct router *router)
{
	if (!router)
		return;
	meta_done(&router->meta);
	router_spec_done(&router->spec);
	router_status_done(&router->status);
	free(router);
}

int router_patch(struct router *router, const json_t *patch, struct error *err)
{
	AUTO(json_decref) json_t *merged = router_spec_encode_user(&router->spec);
	AUTO(router_spec_done) struct router_spec spec;
	int r;

	router_spec_init(&spec);
	json_merge(merged, patch);
	r = router_spec_decode_user(merged, &spec, err);
	if (r < 0)
		return r;
	spec.transit = router->spec.transit;
	spec.node = mem_strdup(router->spec.node);
	router_spec_done(&router->spec);
	router->spec = spec;
	spec = (struct router_spec){};
	return 0;
}

json_t *router_patch_undo(const struct router *router, const json_t *patch)
{
	AUTO(json_decref) json_t *object = router_spec_encode_user(&router->spec);

	return json_merge_undo(object, patch);
}

int router_request_decode(const json_t *doc, struct router **ret, struct error *err)
{
	AUTO(router_free) struct router *router = mem_new0(struct router);
	struct json_reader in = { .err = err };
	int r;

	router_spec_init(&router->spec);
	member_read_text(&in, doc, "name", TEXT_MAX_BYTES, &router->meta.name);
	member_read_map(&in, doc, "labels", &router->meta.labels);
	read_spec(&in, doc, true, &router->spec);
	r = json_reader_finish(&in, doc);
	if (r == 0)
		r = name_check(router->meta.name, "name", err);
	if (r == 0)
		r = labels_check(router->meta.labels, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(router);
	return 0;
}

struct router_network *router_find_network(const struct router_spec *spec, const char *uid)
{
	for (size_t i = 0; i < spec->network_count; i++)
		if (strcmp(spec->networks[i].uid, uid) == 0)
			return &spec->networks[i];
	return NULL;
}

struct ip router_transit(const struct router_spec *spec)
{
	struct ip ip = spec->transit;

	ip.bytes[3] |= 1;
	return ip;
}

/* ---- forwards as text */

void router_forward_key(const struct router_forward *forward, char ret[ROUTER_KEY_SIZE])
{
	char address[IP_TEXT_SIZE] = "";

	if (forward->address.family)
		ip_format(&forward->address, address);
	snprintf(ret, ROUTER_KEY_SIZE, "%s%s%s%s%u/%s", forward->address.family == 6 ? "[" : "",
		 address, forward->address.family == 6 ? "]" : "", address[0] ? ":" : "",
		 forward->port, protocol_name(forward->protocol));
}

/* A port from 1 to 65535 that is all of the text. */
static int parse_port(const char *text, uint16_t *ret)
{
	unsigned int port = 0;

	if (!text[0] || strlen(text) > 5 || text[strspn(text, "0123456789")])
		return -EINVAL;
	for (; *text; text++)
		port = 10 * port + (unsigned int) (*text - '0');
	if (port < 1 || port > PORT_MAX)
		return -EINVAL;
	*ret = (uint16_t) port;
	return 0;
}

static int parse_protocol(char *text, enum protocol *ret)
{
	char *slash = strrchr(text, '/');

	*ret = PROTOCOL_TCP;
	if (!slash)
		return 0;
	*slash++ = '\0';
	if (strcmp(slash, protocol_name(PROTOCOL_UDP)) == 0)
		*ret = PROTOCOL_UDP;
	else if (strcmp(slash, protocol_name(PROTOCOL_TCP)) != 0)
		return -EINVAL;
	return 0;
}

/* Cuts the last part off, behind a colon; NULL when there is none.  "[v6]" stays whole. */
static char *cut_last(char *text)
{
	char *bracket = text[0] && text[strlen(text) - 1] == ']' ? strrchr(text, '[') : NULL;
	char *colon = bracket ? (bracket > text ? bracket - 1 : NULL) : strrchr(text, ':');

	if (!colon || *colon != ':')
		return NULL;
	*colon = '\0';
	return colon + 1;
}

/* "192.0.2.1" or "[2001:db8::1]" */
static int parse_address(char *text, struct ip *ret)
{
	size_t size = strlen(text);

	if (text[0] != '[')
		return strchr(text, ':') ? -EINVAL : ip_parse(text, ret);
	if (text[size - 1] != ']')
		return -EINVAL;
	text[size - 1] = '\0';
	return ip_parse(text + 1, ret);
}

/* [ADDRESS:]PORT */
static int parse_listener(char *text, struct router_forward *forward)
{
	char *port = cut_last(text);

	if (!port)
		return parse_port(text, &forward->port);
	if (parse_address(text, &forward->address) < 0)
		return -EINVAL;
	return parse_port(port, &forward->port);
}

static char *copy_bounded(const char *text)
{
	return strnlen(text, TEXT_MAX_BYTES) < TEXT_MAX_BYTES ? mem_strdup(text) : NULL;
}

int router_forward_key_parse(const char *text, struct router_forward *ret, struct error *err)
{
	AUTO(free) char *copy = copy_bounded(text);
	struct router_forward forward = {};

	if (!copy || parse_protocol(copy, &forward.protocol) < 0 ||
	    parse_listener(copy, &forward) < 0)
		return error_say(err, -EINVAL,
				 "\"%.64s\" is not [ADDRESS:]PORT/tcp or [ADDRESS:]PORT/udp, like "
				 "8080/tcp",
				 text);
	*ret = forward;
	return 0;
}

static int parse_target(char *text, struct router_target *ret)
{
	if (parse_address(text, &ret->address) == 0)
		return 0;
	ret->address = (struct ip){};
	if (name_check(text, "", NULL) < 0)
		return -EINVAL;
	snprintf(ret->instance, sizeof(ret->instance), "%s", text);
	return 0;
}

int router_forward_parse(const char *text, struct router_forward *ret, struct error *err)
{
	AUTO(free) char *copy = copy_bounded(text);
	struct router_forward forward = {};
	char *port = NULL, *target = NULL;
	int r = copy ? parse_protocol(copy, &forward.protocol) : -EINVAL;

	if (r == 0)
		port = cut_last(copy);
	if (port)
		target = cut_last(copy);
	if (!target || parse_port(port, &forward.target_port) < 0 ||
	    parse_target(target, &forward.target) < 0 || parse_listener(copy, &forward) < 0)
		return error_say(err, -EINVAL,
				 "\"%.64s\" is not [ADDRESS:]PORT:INSTANCE:PORT[/udp], like "
				 "8080:web:80",
				 text);
	*ret = forward;
	return 0;
}
