#include "model/network_driver.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"
#include "model/member.h"
#include "model/network.h"

enum { UPLINK_MAX_BYTES = 15 };

const char *const network_driver_names[] = { "bridge", "macvlan", "physical", "ovs", NULL };
const char *const macvlan_mode_names[] = { "private", "vepa", "bridge", "passthru", NULL };

/* As people may write it: `bridged` is another word for physical. */
static const char *const driver_words[] = {
	"bridge", "macvlan", "physical", "ovs", "bridged", NULL
};

enum { WORD_BRIDGED = NETWORK_DRIVER_OVS + 1 };

/* A bit for each driver that has it; the driver bridge has everything. */
static const struct {
	unsigned int drivers;
	const char *lacks; /* behind "has" or "have no" */
} abilities[] = {
	[NETWORK_CAN_PUBLISH] = { 0, "published ports" },
	[NETWORK_CAN_GROUPS] = { 0, "security groups" },
	[NETWORK_CAN_NAMES] = { 0, "name server" },
	[NETWORK_CAN_TUNNEL] = { 0, "tunnels" },
	[NETWORK_CAN_ISOLATE] = { 0, "isolation" },
	[NETWORK_CAN_TRANSLATE] = { 0, "address translation" },
	[NETWORK_CAN_BALANCE] = { 0, "load balancers" },
	[NETWORK_CAN_LIMIT] = { 1 << NETWORK_DRIVER_PHYSICAL, "rate limits" },
	[NETWORK_CAN_LOG_FLOWS] = { 0, "flow log" },
};

bool network_can(const struct network_spec *spec, enum network_ability ability)
{
	return spec->driver == NETWORK_DRIVER_BRIDGE ||
	       abilities[ability].drivers & 1U << spec->driver;
}

int network_require(const struct network_spec *spec, const char *name, enum network_ability ability,
		    struct error *err)
{
	if (network_can(spec, ability))
		return 0;
	return error_say(err, -EINVAL,
			 "network \"%s\" has driver %s, which has no %s; use one of driver bridge",
			 name, network_driver_names[spec->driver], abilities[ability].lacks);
}

bool network_has_gateway(const struct network_spec *spec)
{
	return !spec->isolated && (spec->gateway4.family || spec->gateway6.family);
}

void network_default_gateways(struct network_spec *spec)
{
	spec->gateway4 = spec->gateway6 = (struct ip){};
	if (spec->driver == NETWORK_DRIVER_OVS && !spec->uplink)
		return;
	if (spec->ipv4.base.family)
		subnet_nth(&spec->ipv4, 1, &spec->gateway4);
	if (spec->ipv6.base.family)
		subnet_nth(&spec->ipv6, 1, &spec->gateway6);
}

int ip_range_parse(const char *text, const struct subnet *subnet, const char *what,
		   struct ip_range *ret, struct error *err)
{
	const char *dash = strchr(text, '-');
	AUTO(free) char *first = dash ? mem_strndup(text, (size_t) (dash - text)) : NULL;
	char range[SUBNET_TEXT_SIZE];
	struct ip_range value;

	if (!dash || ip_parse(first, &value.first) < 0 || ip_parse(dash + 1, &value.last) < 0)
		return error_say(err, -EINVAL, "%s: \"%.100s\" must be like %s", what, text,
				 subnet->base.family == 6 ? "fd00:1::10-fd00:1::ff"
							  : "10.1.0.10-10.1.0.99");
	if (!subnet->base.family)
		return error_say(err, -EINVAL, "%s: the subnet that it is a part of is missing",
				 what);
	subnet_format(subnet, range);
	if (!subnet_index(subnet, &value.first) || !subnet_index(subnet, &value.last))
		return error_say(err, -EINVAL,
				 "%s: \"%.100s\" must lie inside of %s, among its hosts", what,
				 text, range);
	if (subnet_index(subnet, &value.first) > subnet_index(subnet, &value.last))
		return error_say(err, -EINVAL, "%s: \"%.100s\" ends before it begins", what, text);
	*ret = value;
	return 0;
}

static void read_uplink(struct json_reader *in, const json_t *object, struct network_spec *spec)
{
	AUTO(free) char *text = NULL;

	json_read_string(in, object, "uplink", &text);
	if (in->result < 0 || !text || !text[0])
		return;
	for (const char *c = text; *c; c++)
		if (!isascii(*c) || (!isalnum((unsigned char) *c) && !strchr("._-", *c))) {
			member_fail(in, "uplink", "\"%.32s\" is not the name of an interface",
				    text);
			return;
		}
	if (strlen(text) > UPLINK_MAX_BYTES || text[0] == '.')
		member_fail(in, "uplink", "\"%.32s\" is not the name of an interface", text);
	else
		mem_replace(&spec->uplink, text);
}

static void read_range(struct json_reader *in, const json_t *object, const char *name,
		       const struct subnet *subnet, struct ip_range *ret)
{
	char path[MEMBER_PATH_MAX];
	AUTO(free) char *text = NULL;
	int r;

	json_read_string(in, object, name, &text);
	if (in->result < 0 || !text || !text[0])
		return;
	r = ip_range_parse(text, subnet, member_path(path, in->where, name), ret, in->err);
	if (r < 0)
		in->result = r;
}

static void read_gateway(struct json_reader *in, const json_t *object, const char *name,
			 const struct subnet *subnet, bool ours, struct ip *ret)
{
	AUTO(free) char *text = NULL;
	struct ip ip = {};

	json_read_string(in, object, name, &text);
	if (in->result < 0 || !text || !text[0])
		return;
	if (!ours && strcmp(text, "none") == 0)
		*ret = (struct ip){};
	else if (ip_parse(text, &ip) < 0 || !subnet_index(subnet, &ip))
		member_fail(in, name, "\"%.64s\" is not an address of the subnet", text);
	else
		*ret = ip;
}

static void read_mode(struct json_reader *in, const json_t *object, struct network_spec *spec)
{
	unsigned int mode = MACVLAN_BRIDGED;

	member_read_enum(in, object, "mode", macvlan_mode_names, &mode);
	if (spec->driver != NETWORK_DRIVER_MACVLAN && json_object_get(object, "mode"))
		member_fail(in, "mode", "only driver macvlan has modes");
	spec->mode = mode;
}

static void lacks(struct json_reader *in, const char *name, const struct network_spec *spec,
		  enum network_ability ability)
{
	if (!network_can(spec, ability))
		member_fail(in, name, "driver %s has no %s; driver bridge has",
			    network_driver_names[spec->driver], abilities[ability].lacks);
}

/* What was asked for that only bridges of ours have. */
static void check_lacks(struct json_reader *in, const json_t *object,
			const struct network_spec *spec)
{
	if (json_is_true(json_object_get(object, "nat")))
		lacks(in, "nat", spec, NETWORK_CAN_TRANSLATE);
	if (spec->isolated)
		lacks(in, "isolated", spec, NETWORK_CAN_ISOLATE);
	if (json_object_get(object, "dns_domain"))
		lacks(in, "dns_domain", spec, NETWORK_CAN_NAMES);
	if (spec->tunnel.vni)
		lacks(in, "tunnel", spec, NETWORK_CAN_TUNNEL);
	if (spec->flow_log)
		lacks(in, "flow_log", spec, NETWORK_CAN_LOG_FLOWS);
}

static void check_uplink(struct json_reader *in, const struct network_spec *spec)
{
	const char *name = network_driver_names[spec->driver];

	if (spec->driver == NETWORK_DRIVER_BRIDGE) {
		if (spec->uplink)
			member_fail(in, "uplink",
				    "driver bridge has none: macvlan, physical and ovs have");
		return;
	}
	if (!spec->uplink && spec->driver == NETWORK_DRIVER_OVS)
		return;
	if (!spec->uplink)
		member_fail(in, "uplink", "driver %s needs one: %s of the node", name,
			    spec->driver == NETWORK_DRIVER_MACVLAN ? "an interface" : "a bridge");
	else if (!spec->ipv4.base.family && !spec->ipv6.base.family)
		member_fail(in, "ipv4",
			    "with driver %s, say the subnet of the LAN behind %s (addresses from "
			    "its DHCP are not there yet)",
			    name, spec->uplink);
}

void network_driver_read(struct json_reader *in, const json_t *object, struct network_spec *spec)
{
	unsigned int driver = spec->driver;
	bool ours;

	member_read_enum(in, object, "driver", driver_words, &driver);
	spec->driver = driver == WORD_BRIDGED ? NETWORK_DRIVER_PHYSICAL : driver;
	ours = spec->driver == NETWORK_DRIVER_BRIDGE;
	read_mode(in, object, spec);
	read_uplink(in, object, spec);
	if (in->result < 0)
		return;
	check_uplink(in, spec);
	check_lacks(in, object, spec);
	if (!ours)
		spec->nat = false;
	network_default_gateways(spec);
	read_gateway(in, object, "gateway4", &spec->ipv4, ours, &spec->gateway4);
	read_gateway(in, object, "gateway6", &spec->ipv6, ours, &spec->gateway6);
	read_range(in, object, "range4", &spec->ipv4, &spec->range4);
	read_range(in, object, "range6", &spec->ipv6, &spec->range6);
}

static void put_range(json_t *object, const char *name, const struct ip_range *range)
{
	char first[IP_TEXT_SIZE], last[IP_TEXT_SIZE];

	if (!range->first.family)
		return;
	ip_format(&range->first, first);
	ip_format(&range->last, last);
	AUTO(free) char *text = mem_printf("%s-%s", first, last);
	json_put_string(object, name, text);
}

static void put_gateway(json_t *object, const char *name, const struct subnet *subnet,
			const struct ip *gateway)
{
	char text[IP_TEXT_SIZE] = "none";

	if (!subnet->base.family)
		return;
	if (gateway->family)
		ip_format(gateway, text);
	json_put_string(object, name, text);
}

void network_driver_put(json_t *object, const struct network_spec *spec)
{
	json_put_string(object, "driver", network_driver_names[spec->driver]);
	put_range(object, "range4", &spec->range4);
	put_range(object, "range6", &spec->range6);
	if (spec->driver == NETWORK_DRIVER_BRIDGE)
		return;
	if (spec->driver == NETWORK_DRIVER_MACVLAN)
		json_put_string(object, "mode", macvlan_mode_names[spec->mode]);
	json_put_string(object, "uplink", spec->uplink);
	put_gateway(object, "gateway4", &spec->ipv4, &spec->gateway4);
	put_gateway(object, "gateway6", &spec->ipv6, &spec->gateway6);
}
