#include "model/network.h"

#include <ctype.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/json_merge.h"
#include "base/mem.h"
#include "base/strv.h"
#include "model/member.h"

/* With an instance's name in front, a domain is still a name: 253 characters. */
enum { DOMAIN_MAX_BYTES = 189, LABEL_MAX_BYTES = 63, TEXT_MAX_BYTES = 256, ERROR_MAX_BYTES = 1024 };
enum { VNI_MAX = 0xffffff, PORT_MAX = 65535, PEERS_MAX = 64 };
enum { MTU_MIN = 1280, MTU_MAX = 65535, PREFIX4_MIN = 8, PREFIX4_MAX = 30, PREFIX6_MAX = 120 };

static const char default_domain[] = "brume.internal";
static const char *const tunnel_kinds[] = { "vxlan", "gre", NULL };
static const char *const state_names[] = { "pending", "ready", "failed", "gone", NULL };

static void read_subnet(struct json_reader *in, const json_t *object, const char *name, int family,
			struct subnet *ret)
{
	char path[MEMBER_PATH_MAX];
	AUTO(free) char *text = NULL;
	unsigned int min = family == 4 ? PREFIX4_MIN : 1;
	unsigned int max = family == 4 ? PREFIX4_MAX : PREFIX6_MAX;
	int r;

	json_read_string(in, object, name, &text);
	if (in->result < 0 || !text || !text[0])
		return;
	r = subnet_parse(text, family, member_path(path, in->where, name), ret, in->err);
	if (r < 0)
		in->result = r;
	else if (ret->prefix < min || ret->prefix > max)
		member_fail(in, name, "must have a prefix of %u to %u", min, max);
}

static int check_peers(struct json_reader *in, char **peers, const char *local)
{
	struct ip ip, first = {};

	if (strv_count(peers) > PEERS_MAX)
		return member_fail(in, "peers", "at most %d are possible", PEERS_MAX);
	if (local && ip_parse(local, &first) < 0)
		return member_fail(in, "local", "\"%.64s\" is not an IP address", local);
	for (char **peer = peers; peer && *peer; peer++) {
		if (ip_parse(*peer, &ip) < 0)
			return member_fail(in, "peers", "\"%.64s\" is not an IP address", *peer);
		if (first.family && ip.family != first.family)
			return member_fail(in, "peers", "\"%.64s\": all must be IPv4, or all IPv6",
					   *peer);
		first = ip;
	}
	return 0;
}

/* {ADDRESS: {}}: an object, so that a patch can name one. */
static void read_peers(struct json_reader *in, const json_t *object, char ***ret)
{
	json_t *peers = NULL, *value;
	const char *key;

	json_read_object(in, object, "peers", &peers);
	json_object_foreach(peers, key, value)
	{
		if (!json_is_object(value) || json_object_size(value) > 0) {
			member_fail(in, "peers", "\"%.64s\" must be {}", key);
			return;
		}
		strv_append(ret, key);
	}
}

/* What one kind has the other does not: so a network never has peers of both. */
static int check_kind(struct json_reader *in, bool gre, uint32_t vni, uint32_t key, uint32_t port)
{
	if (in->result < 0)
		return in->result;
	if (gre && (vni || port))
		return member_fail(in, vni ? "vni" : "port",
				   "belongs to vxlan; a network has one kind of tunnel, and gre "
				   "has a key");
	if (!gre && key)
		return member_fail(in, "key",
				   "belongs to gre; a network has one kind of tunnel, and vxlan "
				   "has a vni");
	if (gre && !key)
		return member_fail(in, "key", "a gre tunnel needs one, from 1 to %u", UINT32_MAX);
	if (!gre && !vni)
		return member_fail(in, "vni", "a tunnel needs one, from 1 to %d", VNI_MAX);
	return 0;
}

static void read_tunnel(struct json_reader *in, const json_t *object, struct network_tunnel *tunnel)
{
	struct json_reader inner = { .err = in->err, .where = "tunnel" };
	uint32_t vni = 0, key = 0, port = 0;
	unsigned int kind = 0;
	json_t *given = NULL;

	json_read_object(in, object, "tunnel", &given);
	if (in->result < 0 || !given)
		return;
	member_read_enum(&inner, given, "kind", tunnel_kinds, &kind);
	json_read_uint32(&inner, given, "vni", VNI_MAX, &vni);
	json_read_uint32(&inner, given, "key", UINT32_MAX, &key);
	json_read_uint32(&inner, given, "port", PORT_MAX, &port);
	member_read_text(&inner, given, "local", IP_TEXT_SIZE - 1, &tunnel->local);
	read_peers(&inner, given, &tunnel->peers);
	tunnel->gre = kind == 1;
	tunnel->vni = tunnel->gre ? key : vni;
	tunnel->port = (uint16_t) port;
	check_kind(&inner, tunnel->gre, vni, key, port);
	if (inner.result == 0)
		check_peers(&inner, tunnel->peers, tunnel->local);
	if (json_reader_finish(&inner, given) < 0)
		in->result = inner.result;
}

static void put_tunnel(json_t *object, const struct network_tunnel *tunnel)
{
	json_t *member, *peers;

	if (!tunnel->vni)
		return;
	member = json_object();
	peers = json_object();
	if (tunnel->gre)
		json_put_string(member, "kind", tunnel_kinds[1]);
	member_put_uint(member, tunnel->gre ? "key" : "vni", tunnel->vni);
	if (tunnel->port)
		member_put_uint(member, "port", tunnel->port);
	json_put_string(member, "local", tunnel->local);
	for (char **peer = tunnel->peers; peer && *peer; peer++)
		json_object_set_new(peers, *peer, json_object());
	json_object_set_new(member, "peers", peers);
	json_object_set_new(object, "tunnel", member);
}

static void tunnel_done(struct network_tunnel *tunnel)
{
	free(tunnel->local);
	strv_free(tunnel->peers);
	*tunnel = (struct network_tunnel){};
}

/* Labels with dots between them. */
static int check_domain(struct json_reader *in, const char *domain)
{
	size_t size = 0;

	if (!domain[0])
		return member_fail(in, "dns_domain", "must not be empty");
	for (const char *c = domain;; c++) {
		bool end = *c == '.' || *c == '\0';

		if (!end && !isalnum((unsigned char) *c) && *c != '-')
			return member_fail(in, "dns_domain",
					   "\"%.64s\" must be letters, digits, '.' and '-'",
					   domain);
		if (end && (size == 0 || size > LABEL_MAX_BYTES || c[-1] == '-' ||
			    c[-(ptrdiff_t) size] == '-'))
			return member_fail(in, "dns_domain",
					   "\"%.64s\" must be words of 1 to %d characters with "
					   "dots between them, no '-' at their ends",
					   domain, LABEL_MAX_BYTES);
		if (*c == '\0')
			return 0;
		size = end ? 0 : size + 1;
	}
}

static void check_advertise(struct json_reader *in, const struct network_spec *spec)
{
	if (!spec->advertise || in->result < 0)
		return;
	if (spec->driver != NETWORK_DRIVER_BRIDGE)
		member_fail(in, "advertise",
			    "the LAN behind an uplink is announced by its own router; driver "
			    "bridge has subnets of its own");
	else if (spec->isolated)
		member_fail(in, "advertise", "nothing leads into an isolated network");
	else if (spec->nat)
		member_fail(in, "advertise",
			    "a network with nat is behind the node's own address, there is "
			    "nothing to announce; a routed one (nat false) has something");
}

int network_spec_read_user(struct json_reader *in, const json_t *object, struct network_spec *spec)
{
	uint32_t mtu = spec->mtu;

	read_subnet(in, object, "ipv4", 4, &spec->ipv4);
	read_subnet(in, object, "ipv6", 6, &spec->ipv6);
	json_read_bool(in, object, "nat", &spec->nat);
	json_read_bool(in, object, "isolated", &spec->isolated);
	if (spec->isolated && json_is_true(json_object_get(object, "nat")))
		member_fail(in, "nat", "an isolated network has no way out that could translate");
	spec->nat = spec->nat && !spec->isolated;
	member_read_text(in, object, "dns_domain", DOMAIN_MAX_BYTES, &spec->dns_domain);
	json_read_uint32(in, object, "mtu", MTU_MAX, &mtu);
	if (mtu != 0 && mtu < MTU_MIN)
		member_fail(in, "mtu", "must be from %d to %d", MTU_MIN, MTU_MAX);
	spec->mtu = mtu;
	read_tunnel(in, object, &spec->tunnel);
	json_read_bool(in, object, "flow_log", &spec->flow_log);
	if (spec->dns_domain)
		check_domain(in, spec->dns_domain);
	json_read_bool(in, object, "dhcp", &spec->dhcp);
	network_driver_read(in, object, spec);
	if (spec->dhcp && spec->isolated)
		member_fail(in, "dhcp",
			    "the node has no address on an isolated network to answer from");
	else if (spec->dhcp && !network_can(spec, NETWORK_CAN_NAMES))
		member_fail(in, "dhcp", "driver %s has no DHCP of the node's; driver bridge has",
			    network_driver_names[spec->driver]);
	json_read_bool(in, object, "advertise", &spec->advertise);
	check_advertise(in, spec);
	return in->result;
}

int network_spec_decode(const json_t *object, struct network_spec *spec, struct error *err)
{
	struct json_reader in = { .err = err, .where = "spec" };

	network_spec_read_user(&in, object, spec);
	member_read_text(&in, object, "node", TEXT_MAX_BYTES, &spec->node);
	if (in.result == 0 && !spec->ipv4.base.family && !spec->ipv6.base.family)
		member_fail(&in, "ipv4", "a network needs an IPv4 or an IPv6 subnet");
	return json_reader_finish(&in, object);
}

/* What may change while the network is used. */
static void put_changeable(json_t *object, const struct network_spec *spec)
{
	put_tunnel(object, &spec->tunnel);
	if (spec->advertise)
		json_object_set_new(object, "advertise", json_true());
	if (spec->flow_log)
		json_object_set_new(object, "flow_log", json_true());
}

bool network_domain_is_default(const struct network_spec *spec)
{
	return strcmp(spec->dns_domain ? spec->dns_domain : "", default_domain) == 0;
}

void network_spec_put_user(json_t *object, const struct network_spec *spec)
{
	char text[SUBNET_TEXT_SIZE];

	network_driver_put(object, spec);
	if (spec->ipv4.base.family) {
		subnet_format(&spec->ipv4, text);
		json_put_string(object, "ipv4", text);
	}
	if (spec->ipv6.base.family) {
		subnet_format(&spec->ipv6, text);
		json_put_string(object, "ipv6", text);
	}
	json_object_set_new(object, "nat", json_boolean(spec->nat));
	if (spec->isolated)
		json_object_set_new(object, "isolated", json_true());
	/* One that nobody asked for is no word of those who have no name server. */
	if (network_can(spec, NETWORK_CAN_NAMES) || !network_domain_is_default(spec))
		json_put_string(object, "dns_domain", spec->dns_domain);
	if (spec->dhcp)
		json_object_set_new(object, "dhcp", json_true());
	member_put_uint(object, "mtu", spec->mtu);
	put_changeable(object, spec);
}

json_t *network_spec_encode(const struct network_spec *spec)
{
	json_t *object = json_object();
	char text[IP_TEXT_SIZE];

	network_spec_put_user(object, spec);
	if (spec->driver == NETWORK_DRIVER_BRIDGE) {
		ip_format(&spec->gateway4, text);
		json_put_string(object, "gateway4", text);
		ip_format(&spec->gateway6, text);
		json_put_string(object, "gateway6", text);
	}
	json_put_string(object, "node", spec->node);
	return object;
}

void network_zone(const struct network *network, char ret[NETWORK_ZONE_SIZE])
{
	snprintf(ret, NETWORK_ZONE_SIZE, "%s.%s.internal", network->meta.name,
		 network->meta.project);
}

void network_spec_init(struct network_spec *spec)
{
	*spec = (struct network_spec){ .nat = true, .dns_domain = mem_strdup(default_domain) };
}

void network_spec_copy(struct network_spec *to, const struct network_spec *from)
{
	struct network_spec copy = *from;

	copy.dns_domain = mem_strdup(from->dns_domain);
	copy.node = mem_strdup(from->node);
	copy.uplink = mem_strdup(from->uplink);
	copy.tunnel.local = mem_strdup(from->tunnel.local);
	copy.tunnel.peers = strv_copy(from->tunnel.peers);
	*to = copy;
}

void network_spec_done(struct network_spec *spec)
{
	tunnel_done(&spec->tunnel);
	free(spec->dns_domain);
	free(spec->node);
	free(spec->uplink);
	*spec = (struct network_spec){};
}

int network_status_decode(const json_t *object, struct network_status *status, struct error *err)
{
	struct json_reader in = { .err = err, .where = "status" };
	unsigned int state = status->state;

	json_read_uint64(&in, object, "generation", &status->generation);
	member_read_enum(&in, object, "state", state_names, &state);
	member_read_text(&in, object, "bridge", TEXT_MAX_BYTES, &status->bridge);
	json_read_uint32(&in, object, "mtu", MTU_MAX, &status->mtu);
	json_read_strv(&in, object, "advertised", &status->advertised);
	member_read_text(&in, object, "error", ERROR_MAX_BYTES, &status->error);
	if (json_reader_finish(&in, object) < 0)
		return in.result;
	status->state = state;
	return 0;
}

json_t *network_status_encode(const struct network_status *status)
{
	json_t *object = json_object();

	member_put_uint(object, "generation", status->generation);
	json_put_string(object, "state", state_names[status->state]);
	json_put_string(object, "bridge", status->bridge);
	if (status->mtu)
		member_put_uint(object, "mtu", status->mtu);
	json_put_strv(object, "advertised", status->advertised);
	json_put_string(object, "error", status->error);
	return object;
}

void network_status_done(struct network_status *status)
{
	free(status->bridge);
	strv_free(status->advertised);
	free(status->error);
	*status = (struct network_status){};
}

int network_decode(const json_t *doc, struct network **ret, struct error *err)
{
	AUTO(network_free) struct network *network = mem_new0(struct network);
	json_t *spec, *status;
	int r;

	network_spec_init(&network->spec);
	r = meta_decode_resource(doc, KIND_NETWORK, &network->meta, &spec, &status, err);
	if (r == 0)
		r = network_spec_decode(spec, &network->spec, err);
	if (r == 0 && status)
		r = network_status_decode(status, &network->status, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(network);
	return 0;
}

json_t *network_encode(const struct network *network, unsigned int parts)
{
	return meta_encode_resource(
		KIND_NETWORK, &network->meta, network_spec_encode(&network->spec),
		parts & ENCODE_STATUS ? network_status_encode(&network->status) : NULL);
}

struct network *network_copy(const struct network *network)
{
	struct network *copy = mem_new0(struct network);

	*copy = *network;
	meta_copy(&copy->meta, &network->meta);
	network_spec_copy(&copy->spec, &network->spec);
	copy->status.bridge = mem_strdup(network->status.bridge);
	copy->status.advertised = strv_copy(network->status.advertised);
	copy->status.error = mem_strdup(network->status.error);
	return copy;
}

void network_free(struct network *network)
{
	if (!network)
		return;
	meta_done(&network->meta);
	network_spec_done(&network->spec);
	network_status_done(&network->status);
	free(network);
}

static json_t *encode_changeable(const struct network *network)
{
	json_t *object = json_object();

	put_changeable(object, &network->spec);
	return object;
}

int network_patch(struct network *network, const json_t *patch, struct error *err)
{
	AUTO(json_decref) json_t *merged = encode_changeable(network);
	struct json_reader in = { .err = err, .where = "" };

	json_merge(merged, patch);
	tunnel_done(&network->spec.tunnel);
	read_tunnel(&in, merged, &network->spec.tunnel);
	network->spec.advertise = false;
	json_read_bool(&in, merged, "advertise", &network->spec.advertise);
	check_advertise(&in, &network->spec);
	network->spec.flow_log = false;
	json_read_bool(&in, merged, "flow_log", &network->spec.flow_log);
	if (in.result == 0 && network->spec.tunnel.vni)
		in.result = network_require(&network->spec, network->meta.name, NETWORK_CAN_TUNNEL,
					    err);
	if (in.result == 0 && network->spec.flow_log)
		in.result = network_require(&network->spec, network->meta.name,
					    NETWORK_CAN_LOG_FLOWS, err);
	return json_reader_finish(&in, merged);
}

json_t *network_patch_undo(const struct network *network, const json_t *patch)
{
	AUTO(json_decref) json_t *object = encode_changeable(network);

	return json_merge_undo(object, patch);
}
