#include "model/balancer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/json_merge.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "model/balancer_internal.h"
#include "model/member.h"

enum { TEXT_MAX_BYTES = 256, SELECTOR_MAX_BYTES = 4096 };

const char *const balancer_algorithm_names[] = { "round_robin", "least_connections", "source_hash",
						 NULL };
const char *const balancer_check_names[] = { "none", "tcp", "http", NULL };

static const char vip_name[] = "vip";
static const char *const protocol_names[] = { "tcp", "udp", NULL };

/* ---- where it listens ---- */

static bool same_place(const struct balancer_listen *a, const struct balancer_listen *b)
{
	if (a->protocol != b->protocol || a->port != b->port || a->vip != b->vip)
		return false;
	return a->vip || !a->address[0] || !b->address[0] || strcmp(a->address, b->address) == 0;
}

static int read_address(struct json_reader *in, const json_t *object,
			struct balancer_listen *listen)
{
	AUTO(free) char *text = NULL;
	struct ip ip;

	json_read_string(in, object, "address", &text);
	if (in->result < 0 || !text || !text[0])
		return in->result;
	listen->vip = strcmp(text, vip_name) == 0;
	if (listen->vip)
		return 0;
	if (ip_parse(text, &ip) < 0)
		return member_fail(in, "address",
				   "\"%.64s\" is neither an IP address of the node nor \"vip\"",
				   text);
	ip_format(&ip, listen->address);
	if (strcmp(listen->address, "0.0.0.0") == 0 || strcmp(listen->address, "::") == 0)
		listen->address[0] = '\0';
	return 0;
}

static int listen_decode(const json_t *object, const char *where, struct balancer_listen *listen,
			 struct error *err)
{
	struct json_reader in = { .err = err, .where = where };
	unsigned int protocol = PROTOCOL_TCP;
	int64_t port = 0, target = 0;

	member_read_enum(&in, object, "protocol", protocol_names, &protocol);
	read_address(&in, object, listen);
	json_read_int(&in, object, "port", 1, 65535, &port);
	json_read_int(&in, object, "target_port", 1, 65535, &target);
	if (in.result == 0 && port == 0)
		member_fail(&in, "port", "must be given, from 1 to 65535");
	listen->protocol = protocol;
	listen->port = (uint16_t) port;
	listen->target_port = (uint16_t) (target ? target : port);
	return json_reader_finish(&in, object);
}

static void read_listens(struct json_reader *in, const json_t *object, struct balancer_spec *spec)
{
	AUTO(free) struct balancer_listen *list = NULL;
	char path[MEMBER_PATH_MAX], where[MEMBER_PATH_MAX + 32];
	json_t *array = NULL, *item;
	size_t i;

	json_read_array(in, object, "listen", &array);
	if (in->result < 0 || !array)
		return;
	if (json_array_size(array) > BALANCER_LISTEN_MAX) {
		member_fail(in, "listen", "at most %d are possible", BALANCER_LISTEN_MAX);
		return;
	}
	list = mem_new0_array(struct balancer_listen, json_array_size(array) + 1);
	member_path(path, in->where, "listen");
	json_array_foreach(array, i, item)
	{
		snprintf(where, sizeof(where), "%s[%zu]", path, i);
		in->result = listen_decode(item, where, &list[i], in->err);
		if (in->result < 0)
			return;
		for (size_t k = 0; k < i; k++)
			if (same_place(&list[k], &list[i])) {
				member_fail(in, "listen", "port %u/%s is there twice", list[i].port,
					    protocol_name(list[i].protocol));
				return;
			}
	}
	free(spec->listens);
	spec->listens = TAKE_PTR(list);
	spec->listen_count = json_array_size(array);
}

static json_t *encode_listens(const struct balancer_spec *spec)
{
	json_t *array = json_array();

	for (size_t i = 0; i < spec->listen_count; i++) {
		const struct balancer_listen *listen = &spec->listens[i];
		json_t *item = json_object();

		json_put_string(item, "protocol", protocol_name(listen->protocol));
		json_put_string(item, "address", listen->vip ? vip_name : listen->address);
		member_put_uint(item, "port", listen->port);
		member_put_uint(item, "target_port", listen->target_port);
		json_array_append_new(array, item);
	}
	return array;
}

/* ---- how members are checked ---- */

static void read_time(struct json_reader *in, const json_t *object, const char *name, uint32_t *ret)
{
	int64_t value = *ret;

	json_read_int(in, object, name, HEALTH_TIME_MIN_MS, HEALTH_TIME_MAX_MS, &value);
	*ret = (uint32_t) value;
}

static void read_count(struct json_reader *in, const json_t *object, const char *name,
		       uint32_t *ret)
{
	int64_t value = *ret;

	json_read_int(in, object, name, 1, BALANCER_COUNT_MAX, &value);
	*ret = (uint32_t) value;
}

static void read_check(struct json_reader *in, const json_t *object, struct balancer_check *check)
{
	char where[MEMBER_PATH_MAX];
	struct json_reader sub = { .err = in->err,
				   .where = member_path(where, in->where, "check") };
	unsigned int type = check->type;
	int64_t port = check->port;
	json_t *value = NULL;

	json_read_object(in, object, "check", &value);
	if (in->result < 0 || !value)
		return;
	member_read_enum(&sub, value, "type", balancer_check_names, &type);
	json_read_int(&sub, value, "port", 1, 65535, &port);
	member_read_text(&sub, value, "path", HEALTH_PATH_MAX_BYTES, &check->path);
	read_time(&sub, value, "interval_ms", &check->interval_ms);
	read_time(&sub, value, "timeout_ms", &check->timeout_ms);
	read_count(&sub, value, "rise", &check->rise);
	read_count(&sub, value, "fall", &check->fall);
	check->type = type;
	check->port = (uint16_t) port;
	if (sub.result == 0 && check->path && check->type != BALANCER_CHECK_HTTP)
		member_fail(&sub, "path", "only goes with type \"http\"");
	if (sub.result == 0 && check->path && !health_path_is_good(check->path))
		member_fail(&sub, "path",
			    "must begin with '/' and have no spaces or control characters");
	if (sub.result == 0 && check->type == BALANCER_CHECK_HTTP && !check->path)
		check->path = mem_strdup("/");
	in->result = json_reader_finish(&sub, value);
}

static json_t *encode_check(const struct balancer_check *check)
{
	json_t *object = json_object();

	json_put_string(object, "type", balancer_check_names[check->type]);
	member_put_uint(object, "port", check->port);
	json_put_string(object, "path", check->path);
	member_put_uint(object, "interval_ms", check->interval_ms);
	member_put_uint(object, "timeout_ms", check->timeout_ms);
	member_put_uint(object, "rise", check->rise);
	member_put_uint(object, "fall", check->fall);
	return object;
}

/* ---- who its members are ---- */

static void read_selector(struct json_reader *in, const json_t *object, struct balancer_spec *spec)
{
	char path[MEMBER_PATH_MAX];
	AUTO(free) char *text = NULL;
	char **terms = NULL;

	member_read_text(in, object, "selector", SELECTOR_MAX_BYTES, &text);
	if (in->result < 0 || !text)
		return;
	in->result = balancer_selector_parse(text, &terms, in->err);
	if (in->result < 0) {
		error_wrap(in->err, in->result, "%s", member_path(path, in->where, "selector"));
		return;
	}
	strv_free(spec->selector);
	spec->selector = terms;
}

static void put_selector(json_t *object, char *const *selector)
{
	AUTO(strbuf_done) struct strbuf text = {};

	for (size_t i = 0; selector && selector[i]; i++)
		strbuf_printf(&text, "%s%s", i > 0 ? "," : "", selector[i]);
	json_put_string(object, "selector", strbuf_str(&text));
}

static void read_vip_address(struct json_reader *in, const json_t *object, const char *name,
			     uint8_t family, char ret[IP_TEXT_SIZE])
{
	AUTO(free) char *text = NULL;
	struct ip ip;

	json_read_string(in, object, name, &text);
	if (in->result < 0 || !text || !text[0])
		return;
	if (ip_parse(text, &ip) < 0 || ip.family != family)
		member_fail(in, name, "\"%.64s\" is not an IPv%u address", text, family);
	else
		ip_format(&ip, ret);
}

static void read_vip(struct json_reader *in, const json_t *object, struct balancer_spec *spec)
{
	char where[MEMBER_PATH_MAX];
	struct json_reader sub = { .err = in->err, .where = member_path(where, in->where, "vip") };
	json_t *value = NULL;

	json_read_object(in, object, "vip", &value);
	if (in->result < 0 || !value)
		return;
	spec->vip = true;
	read_vip_address(&sub, value, "ipv4", 4, spec->vip4);
	read_vip_address(&sub, value, "ipv6", 6, spec->vip6);
	in->result = json_reader_finish(&sub, value);
}

/* ---- the spec ---- */

static void read_changeable(struct json_reader *in, const json_t *object,
			    struct balancer_spec *spec)
{
	unsigned int algorithm = spec->algorithm;
	int64_t drain_s = spec->drain_s;

	read_listens(in, object, spec);
	read_selector(in, object, spec);
	member_read_enum(in, object, "algorithm", balancer_algorithm_names, &algorithm);
	read_check(in, object, &spec->check);
	json_read_int(in, object, "drain_s", 0, BALANCER_DRAIN_MAX_S, &drain_s);
	spec->algorithm = algorithm;
	spec->drain_s = (uint32_t) drain_s;
}

/* What only holds between the members. */
static int check_whole(struct json_reader *in, const struct balancer_spec *spec)
{
	if (in->result == 0 && (!spec->network || !spec->network[0]))
		return member_fail(in, "network", "must be given");
	if (in->result == 0 && !spec->selector)
		return member_fail(in, "selector", "must be given, like \"role=web\"");
	if (in->result == 0 && spec->listen_count == 0)
		return member_fail(in, "listen", "must name a port at least");
	for (size_t i = 0; in->result == 0 && i < spec->listen_count; i++)
		if (spec->listens[i].vip && !spec->vip)
			return member_fail(in, "listen",
					   "port %u is at \"vip\", but the balancer has no address "
					   "of its own: "
					   "give \"vip\": {}",
					   spec->listens[i].port);
	return in->result;
}

static void read_user(struct json_reader *in, const json_t *object, struct balancer_spec *spec)
{
	member_read_text(in, object, "network", BALANCER_NAME_SIZE - 1, &spec->network);
	read_vip(in, object, spec);
	read_changeable(in, object, spec);
	check_whole(in, spec);
}

static void put_changeable(json_t *object, const struct balancer_spec *spec)
{
	json_object_set_new(object, "listen", encode_listens(spec));
	put_selector(object, spec->selector);
	json_put_string(object, "algorithm", balancer_algorithm_names[spec->algorithm]);
	json_object_set_new(object, "check", encode_check(&spec->check));
	json_object_set_new(object, "drain_s", json_integer(spec->drain_s));
}

static void put_user(json_t *object, const struct balancer_spec *spec)
{
	json_put_string(object, "network", spec->network);
	if (spec->vip) {
		json_t *vip = json_object();

		json_put_string(vip, "ipv4", spec->vip4);
		json_put_string(vip, "ipv6", spec->vip6);
		json_object_set_new(object, "vip", vip);
	}
	put_changeable(object, spec);
}

static int spec_decode(const json_t *object, struct balancer_spec *spec, struct error *err)
{
	struct json_reader in = { .err = err, .where = "spec" };

	read_user(&in, object, spec);
	member_read_uid(&in, object, "network_uid", spec->network_uid);
	member_read_text(&in, object, "node", TEXT_MAX_BYTES, &spec->node);
	balancer_members_read(&in, object, spec);
	balancer_drains_read(&in, object, spec);
	return json_reader_finish(&in, object);
}

json_t *balancer_spec_encode(const struct balancer_spec *spec)
{
	json_t *object = json_object();

	put_user(object, spec);
	json_put_string(object, "network_uid", spec->network_uid);
	json_put_string(object, "node", spec->node);
	balancer_members_put(object, spec);
	balancer_drains_put(object, spec);
	return object;
}

void balancer_spec_init(struct balancer_spec *spec)
{
	*spec = (struct balancer_spec){ .check = { .interval_ms = BALANCER_INTERVAL_MS,
						   .timeout_ms = BALANCER_TIMEOUT_MS,
						   .rise = BALANCER_RISE,
						   .fall = BALANCER_FALL },
					.drain_s = BALANCER_DRAIN_S };
}

void balancer_spec_done(struct balancer_spec *spec)
{
	free(spec->network);
	strv_free(spec->selector);
	free(spec->listens);
	free(spec->check.path);
	free(spec->node);
	free(spec->members);
	free(spec->drains);
	*spec = (struct balancer_spec){};
}

/* ---- the whole ---- */

int balancer_decode(const json_t *doc, struct balancer **ret, struct error *err)
{
	AUTO(balancer_free) struct balancer *balancer = mem_new0(struct balancer);
	json_t *spec, *status;
	int r;

	balancer_spec_init(&balancer->spec);
	r = meta_decode_resource(doc, KIND_BALANCER, &balancer->meta, &spec, &status, err);
	if (r == 0)
		r = spec_decode(spec, &balancer->spec, err);
	if (r == 0 && status)
		r = balancer_status_decode(status, &balancer->status, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(balancer);
	return 0;
}

json_t *balancer_encode(const struct balancer *balancer, unsigned int parts)
{
	return meta_encode_resource(
		KIND_BALANCER, &balancer->meta, balancer_spec_encode(&balancer->spec),
		parts & ENCODE_STATUS ? balancer_status_encode(&balancer->status) : NULL);
}

void balancer_free(struct balancer *balancer)
{
	if (!balancer)
		return;
	meta_done(&balancer->meta);
	balancer_spec_done(&balancer->spec);
	balancer_status_done(&balancer->status);
	free(balancer);
}

/* ---- changes ---- */

int balancer_patch(struct balancer *balancer, const json_t *patch, struct error *err)
{
	AUTO(json_decref) json_t *merged = json_object();
	struct json_reader in = { .err = err };
	struct balancer_spec *spec = &balancer->spec, fresh;

	put_changeable(merged, spec);
	json_merge(merged, patch);
	/* What a patch takes away is the default again. */
	balancer_spec_init(&fresh);
	free(spec->check.path);
	free(spec->listens);
	spec->check = fresh.check;
	spec->drain_s = fresh.drain_s;
	spec->algorithm = fresh.algorithm;
	spec->listens = NULL;
	spec->listen_count = 0;
	strv_free(spec->selector);
	spec->selector = NULL;
	read_changeable(&in, merged, spec);
	check_whole(&in, spec);
	return json_reader_finish(&in, merged);
}

json_t *balancer_patch_undo(const struct balancer *balancer, const json_t *patch)
{
	AUTO(json_decref) json_t *object = json_object();

	put_changeable(object, &balancer->spec);
	return json_merge_undo(object, patch);
}

/* ---- requests ---- */

struct balancer_request *balancer_request_new(void)
{
	struct balancer_request *request = mem_new0(struct balancer_request);

	balancer_spec_init(&request->spec);
	request->spec.network = mem_strdup("default");
	return request;
}

int balancer_request_decode(const json_t *doc, struct balancer_request **ret, struct error *err)
{
	AUTO(balancer_request_free) struct balancer_request *request = balancer_request_new();
	struct json_reader in = { .err = err };
	int r;

	member_read_text(&in, doc, "name", TEXT_MAX_BYTES, &request->name);
	member_read_map(&in, doc, "labels", &request->labels);
	read_user(&in, doc, &request->spec);
	r = json_reader_finish(&in, doc);
	if (r == 0)
		r = name_check(request->name, "name", err);
	if (r == 0)
		r = labels_check(request->labels, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(request);
	return 0;
}

json_t *balancer_request_encode(const struct balancer_request *request)
{
	json_t *doc = json_object();

	json_put_string(doc, "name", request->name);
	member_put_map(doc, "labels", request->labels);
	put_user(doc, &request->spec);
	return doc;
}

void balancer_request_free(struct balancer_request *request)
{
	if (!request)
		return;
	free(request->name);
	strv_free(request->labels);
	balancer_spec_done(&request->spec);
	free(request);
}

int balancer_member_request_decode(const json_t *doc, bool *ret_drain, struct error *err)
{
	struct json_reader in = { .err = err };
	bool drain = false;

	json_read_bool(&in, doc, "drain", &drain);
	if (in.result == 0 && !json_is_boolean(json_object_get(doc, "drain")))
		member_fail(&in, "drain", "must be true or false");
	if (json_reader_finish(&in, doc) < 0)
		return in.result;
	*ret_drain = drain;
	return 0;
}
