#include "net/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strv.h"
#include "kern/link.h"
#include "kern/netlink.h"
#include "kern/route_mark.h"
#include "net/address.h"
#include "net/advertise_internal.h"
#include "net/dhcp_internal.h"
#include "net/dns_internal.h"
#include "net/guard_internal.h"
#include "net/mix_internal.h"
#include "net/network_internal.h"
#include "net/node_internal.h"
#include "net/rules_internal.h"

enum { MTU_DEFAULT = 1500, MTU_MIN4 = 576, MTU_MIN6 = 1280, ADDRESS_MAX = 16, LIST_ATTEMPTS = 20 };

void bridge_status_done(struct bridge_status *status)
{
	strv_free(status->dns.argv);
	strv_free(status->dhcp.argv);
	*status = (struct bridge_status){};
}

static bool is_given(const char *text)
{
	return text && text[0];
}

static int plan_family(const char *subnet_text, const char *gateway_text, int family,
		       struct route_ip *subnet, struct route_ip *gateway, struct error *err)
{
	const char *member = family == AF_INET ? "ipv4" : "ipv6";
	const char *example = family == AF_INET ? "10.90.0.0/24" : "fd00:90::/64";

	if (!is_given(subnet_text)) {
		if (is_given(gateway_text))
			return error_say(err, -EINVAL, "%s gateway '%.64s' without a subnet",
					 member, gateway_text);
		return 0;
	}
	if (address_parse_subnet(subnet_text, subnet) < 0 || subnet->family != family)
		return error_say(err, -EINVAL, "%s subnet '%.64s': must be like %s, host bits zero",
				 member, subnet_text, example);
	if (!address_usable_subnet(subnet))
		return error_say(err, -EINVAL,
				 "%s subnet '%.64s': instances cannot live in this range", member,
				 subnet_text);
	*gateway = address_first(subnet);
	if (!is_given(gateway_text))
		return 0;
	if (address_parse(gateway_text, gateway) < 0 || !address_is_host(subnet, gateway))
		return error_say(err, -EINVAL, "%s gateway '%.64s': must be an address of %s",
				 member, gateway_text, subnet_text);
	gateway->prefix = subnet->prefix;
	return 0;
}

static int check_mtu(const struct network_plan *plan, struct error *err)
{
	uint32_t least = plan->subnet6.family ? MTU_MIN6 : MTU_MIN4;

	if (plan->mtu < least || plan->mtu > NETWORK_MTU_MAX)
		return error_say(err, -EINVAL, "mtu %u: must be %u to %u", plan->mtu, least,
				 NETWORK_MTU_MAX);
	return 0;
}

static int plan_names(const struct bridge_spec *spec, struct network_plan *plan, struct error *err)
{
	plan->domain = is_given(spec->dns_domain) ? spec->dns_domain : "brume.internal";
	if (!name_is_domain(plan->domain))
		return error_say(err, -EINVAL,
				 "dns_domain '%.64s': must be labels of letters, digits and '-' "
				 "with dots between them, %d characters at most",
				 plan->domain, NAME_DOMAIN_MAX);
	if (is_given(spec->zone)) {
		if (!name_is_domain(spec->zone) || !name_is_label(spec->project))
			return error_say(err, -EINVAL, "zone '%.64s' of project '%.64s': no names",
					 spec->zone, spec->project ? spec->project : "");
		plan->zone = spec->zone;
		plan->project = spec->project;
	}
	if (spec->dhcp && spec->isolated)
		return error_say(err, -EINVAL,
				 "dhcp: the node has no address on an isolated network to answer "
				 "from");
	return 0;
}

/* A network of others is announced by the router that it has. */
static int plan_advertise(const struct bridge_spec *spec, struct network_plan *plan,
			  struct error *err)
{
	if (!spec->advertise)
		return 0;
	if (spec->nat || spec->isolated || plan->driver.kind != DRIVER_BRIDGE)
		return error_say(err, -EINVAL,
				 "advertise: only a routed network of driver bridge can be "
				 "announced");
	plan->advertise = true;
	plan->gateway4.metric = plan->gateway6.metric = ROUTE_MARK_METRIC;
	return 0;
}

int network_plan(const struct bridge_spec *spec, struct network_plan *ret, struct error *err)
{
	struct network_plan plan = { .mtu = spec->mtu,
				     .isolated = spec->isolated,
				     .dhcp = spec->dhcp };
	int r;

	if (!name_is_uid(spec->uid))
		return error_say(err, -EINVAL,
				 "network uid '%.40s': must be 1 to 32 of 0-9 and a-f",
				 spec->uid ? spec->uid : "");
	r = plan_family(spec->ipv4, spec->gateway4, AF_INET, &plan.subnet4, &plan.gateway4, err);
	if (r == 0)
		r = plan_family(spec->ipv6, spec->gateway6, AF_INET6, &plan.subnet6, &plan.gateway6,
				err);
	if (r < 0)
		return r;
	r = driver_plan(spec, &plan.driver, err);
	if (r < 0)
		return r;
	if (spec->isolated)
		plan.gateway4 = plan.gateway6 = (struct route_ip){};
	if (plan.driver.kind != DRIVER_BRIDGE && !is_given(spec->gateway4))
		plan.gateway4 = (struct route_ip){};
	if (plan.driver.kind != DRIVER_BRIDGE && !is_given(spec->gateway6))
		plan.gateway6 = (struct route_ip){};
	if (!plan.subnet4.family && !plan.subnet6.family)
		return error_say(err, -EINVAL, "network %s: has neither an ipv4 nor an ipv6 subnet",
				 spec->uid);
	r = plan_names(spec, &plan, err);
	if (r == 0)
		r = plan_advertise(spec, &plan, err);
	if (r < 0)
		return r;
	r = tunnel_plan(&spec->tunnel, &plan.tunnel, err);
	if (r < 0)
		return r;
	if (plan.mtu == 0 && !tunnel_is_there(&plan.tunnel) && plan.driver.kind == DRIVER_BRIDGE)
		plan.mtu = MTU_DEFAULT;
	if (plan.mtu)
		r = check_mtu(&plan, err);
	if (r < 0)
		return r;
	*ret = plan;
	return 0;
}

int network_check(const struct bridge_spec *spec, struct error *err)
{
	struct network_plan plan;

	return network_plan(spec, &plan, err);
}

/* Values that the kernel must have before the bridge is up. */
static int set_sysctls(const char *bridge, const struct bridge_spec *spec,
		       const struct network_plan *plan, bool ipv6, struct error *err)
{
	static const struct {
		int family;
		bool isolated;
		const char *name, *value;
	} sysctls[] = {
		{ AF_INET, false, "forwarding", "1" },
		/* 127.0.0.1:PORT on the host is led to an instance; the guard chain keeps others
		   out. */
		{ AF_INET, false, "route_localnet", "1" },
		{ AF_INET6, false, "disable_ipv6", "0" },
		{ AF_INET6, false, "forwarding", "1" },
		{ AF_INET6, false, "accept_ra", "0" },
		{ AF_INET6, false, "accept_dad", "0" },
		/* Nobody there learns of the host's other addresses, nor gets any further. */
		{ AF_INET, true, "forwarding", "0" },
		{ AF_INET, true, "arp_ignore", "8" },
		{ AF_INET6, true, "disable_ipv6", "1" },
	};

	for (size_t i = 0; i < ARRAY_COUNT(sysctls); i++) {
		int r;

		if (sysctls[i].isolated != spec->isolated)
			continue;
		if (sysctls[i].family == AF_INET6 &&
		    !(ipv6 && (plan->subnet6.family || spec->isolated)))
			continue;
		r = link_sysctl(sysctls[i].family, bridge, sysctls[i].name, sysctls[i].value);
		if (r < 0)
			return error_set(err, r, "cannot set %s of %s to %s", sysctls[i].name,
					 bridge, sysctls[i].value);
	}
	return 0;
}

struct addresses {
	int index; /* the bridge */
	const struct network_plan *plan;
	struct route_ip extra[ADDRESS_MAX]; /* on the bridge, not wanted */
	size_t extra_count;
	struct route_ip clash; /* on another interface, in one of our subnets */
};

/* One with another metric is taken away, too: routing daemons do not hear of one that changes. */
static bool is_as_wanted(const struct route_ip *ip, const struct route_ip *wanted)
{
	return address_equal(ip, wanted) && ip->metric == wanted->metric;
}

static void look_at_address(int link_index, const struct route_ip *ip, void *data)
{
	struct addresses *found = data;
	const struct network_plan *plan = found->plan;

	if (link_index != found->index) {
		if ((plan->gateway4.family && address_overlap(&plan->subnet4, ip)) ||
		    (plan->gateway6.family && address_overlap(&plan->subnet6, ip)))
			found->clash = *ip;
	} else if (ip->prefix < 8 * route_ip_size(ip) && !is_as_wanted(ip, &plan->gateway4) &&
		   !is_as_wanted(ip, &plan->gateway6) && found->extra_count < ADDRESS_MAX) {
		/* Those of one address alone are balancers' (balance.c). */
		found->extra[found->extra_count++] = *ip;
	}
}

static int check_addresses(struct net *net, const char *bridge, struct addresses *found,
			   struct error *err)
{
	const struct network_plan *plan = found->plan;
	char text[ADDRESS_TEXT_SIZE];
	int index = found->index, r = -EINTR;

	for (int i = 0; i < LIST_ATTEMPTS && r == -EINTR; i++) {
		*found = (struct addresses){ .index = index, .plan = plan };
		r = route_list_addresses(net->nl, 0, look_at_address, found);
	}
	if (r < 0)
		return error_set(err, r, "cannot list addresses%s", net_detail(net->nl));
	if (found->clash.family)
		return error_say(
			err, -EADDRINUSE,
			"the subnet of %s meets the host's own address %s/%u: choose another",
			bridge, address_text(&found->clash, text), found->clash.prefix);
	return 0;
}

/*
 * Finds the bridge, which is ours when its alias is our uid or, after a crash, empty.  Looks at all
 * addresses of the host before it makes one, so that a subnet that cannot be leaves nothing behind.
 */
static int ensure_link(struct net *net, const char *uid, struct link *bridge,
		       struct addresses *addresses, struct error *err)
{
	char name[IF_NAMESIZE];
	uint8_t mac[LINK_MAC_SIZE];
	int found, r;

	name_bridge(net->prefix, uid, name);
	found = link_find(net->nl, name, bridge);
	if (found < 0 && found != -ENODEV)
		return error_set(err, found, "cannot look for bridge %s%s", name,
				 net_detail(net->nl));
	if (found == 0 && (strcmp(bridge->kind, "bridge") != 0 ||
			   (bridge->alias[0] && strcmp(bridge->alias, uid) != 0)))
		return error_say(err, -EEXIST,
				 "interface %s exists and does not belong to network %s", name,
				 uid);
	addresses->index = found == 0 ? bridge->index : 0;
	r = check_addresses(net, name, addresses, err);
	if (r < 0 || found == 0)
		return r;
	/* A fixed hardware address: else it would follow its ports, and with it everyone's ARP. */
	name_mac(uid, mac);
	r = link_add_bridge(net->nl, name, mac);
	if (r == 0)
		r = link_find(net->nl, name, bridge);
	return r < 0 ? error_set(err, r, "cannot create bridge %s%s", name, net_detail(net->nl))
		     : 0;
}

static int ensure_addresses(struct net *net, const struct link *bridge,
			    const struct addresses *found, struct error *err)
{
	const struct route_ip *wanted[] = { &found->plan->gateway4, &found->plan->gateway6 };
	char text[ADDRESS_TEXT_SIZE];

	for (size_t i = 0; i < found->extra_count; i++)
		(void) route_delete_address(net->nl, bridge->index, &found->extra[i]);
	for (size_t i = 0; i < ARRAY_COUNT(wanted); i++) {
		int r;

		if (!wanted[i]->family)
			continue;
		r = route_add_address(net->nl, bridge->index, wanted[i]);
		if (r < 0)
			return error_set(err, r, "cannot give %s the address %s%s", bridge->name,
					 address_text(wanted[i], text), net_detail(net->nl));
	}
	return 0;
}

static struct rules_element *element_add(struct rules_element *elements, size_t *count,
					 enum rules_set set)
{
	elements[*count] = (struct rules_element){ .set = set };
	return &elements[(*count)++];
}

static void add_subnet(struct rules_element *elements, size_t *count, const char *bridge,
		       const struct route_ip *subnet, const struct route_ip *gateway)
{
	struct route_ip last = address_last(subnet);
	bool ipv4 = gateway->family == AF_INET;
	struct rules_element *element;

	if (!gateway->family)
		return;
	element = element_add(elements, count, ipv4 ? RULES_GATEWAYS4 : RULES_GATEWAYS6);
	memcpy(element->key, gateway->bytes, route_ip_size(gateway));
	element = element_add(elements, count, ipv4 ? RULES_OWN_GATEWAYS4 : RULES_OWN_GATEWAYS6);
	memcpy(element->key, bridge, strlen(bridge));
	memcpy(element->key + IF_NAMESIZE, gateway->bytes, route_ip_size(gateway));
	element = element_add(elements, count, ipv4 ? RULES_SUBNETS4 : RULES_SUBNETS6);
	memcpy(element->key, bridge, strlen(bridge));
	memcpy(element->key + IF_NAMESIZE, subnet->bytes, route_ip_size(subnet));
	memcpy(element->value, last.bytes, route_ip_size(&last));
}

/* The key says which network, too: several have the port in common. */
static void add_tunnel(struct rules_element *elements, size_t *count,
		       const struct tunnel_plan *tunnel)
{
	bool ipv6 = tunnel->vxlan.ipv6;
	uint16_t port = htons(tunnel->vxlan.port);
	uint32_t vni = htonl(tunnel->vxlan.vni << 8); /* three bytes, as in the packet */
	struct rules_element *element;

	/* Packets of GRE belong to the device of their sender and key, or to nobody. */
	if (tunnel->vxlan.vni == 0)
		return;
	element = element_add(elements, count, RULES_TUNNELS);
	memcpy(element->key, &port, sizeof(port));
	memcpy(element->key + 4, &vni, sizeof(vni));
	for (size_t i = 0; i < tunnel->remote_count; i++) {
		element = element_add(elements, count,
				      ipv6 ? RULES_TUNNEL_PEERS6 : RULES_TUNNEL_PEERS4);
		memcpy(element->key, &port, sizeof(port));
		memcpy(element->key + 4, &vni, sizeof(vni));
		memcpy(element->key + 8, tunnel->remotes[i].bytes,
		       route_ip_size(&tunnel->remotes[i]));
	}
}

/* Conntrack zones in use, and the one that is the network's already. */
struct zones {
	const char *uid;
	uint16_t own;
	uint8_t used[UINT16_MAX / 8 + 1];
};

static void look_at_zone(const char *owner, const struct rules_element *element, void *data)
{
	struct zones *zones = data;
	uint16_t zone;

	if (element->set != RULES_ZONES)
		return;
	memcpy(&zone, element->value, sizeof(zone));
	zones->used[zone / 8] |= (uint8_t) (1 << zone % 8);
	if (strcmp(owner, zones->uid) == 0)
		zones->own = zone;
}

/* The zone of an isolated network: it stays what it is, for connections belong to it.  0: none
 * left.
 */
static uint16_t find_zone(const struct net *net, const char *uid)
{
	AUTO(free) struct zones *zones = mem_new0(struct zones);

	zones->uid = uid;
	rules_each(net->rules, look_at_zone, zones);
	if (zones->own)
		return zones->own;
	for (unsigned int zone = 1; zone <= UINT16_MAX; zone++)
		if (!(zones->used[zone / 8] & 1 << zone % 8))
			return (uint16_t) zone;
	return 0;
}

static uint16_t add_isolated(const struct net *net, const char *uid, const char *bridge,
			     struct rules_element *elements, size_t *count)
{
	uint16_t zone = find_zone(net, uid);
	struct rules_element *element = element_add(elements, count, RULES_ZONES);

	memcpy(element->key, bridge, strlen(bridge));
	memcpy(element->value, &zone, sizeof(zone));
	memcpy(element_add(elements, count, RULES_ISOLATED)->key, bridge, strlen(bridge));
	return zone;
}

static int ensure_rules(struct net *net, const struct bridge_spec *spec, const char *bridge,
			const struct network_plan *plan, uint16_t *ret_zone, struct error *err)
{
	struct rules_element elements[RULES_SET_COUNT + TUNNEL_REMOTES_MAX], *element;
	size_t count = 0, conflict = 0, size = strlen(bridge);
	int r;

	if (spec->isolated)
		*ret_zone = add_isolated(net, spec->uid, bridge, elements, &count);
	else
		memcpy(element_add(elements, &count, RULES_BRIDGES)->key, bridge, size);
	if (spec->nat && !spec->isolated)
		memcpy(element_add(elements, &count, RULES_NAT_BRIDGES)->key, bridge, size);
	element = element_add(elements, &count, RULES_SAME);
	memcpy(element->key, bridge, size);
	memcpy(element->key + IF_NAMESIZE, bridge, size);
	add_subnet(elements, &count, bridge, &plan->subnet4, &plan->gateway4);
	add_subnet(elements, &count, bridge, &plan->subnet6, &plan->gateway6);
	add_tunnel(elements, &count, &plan->tunnel);
	r = rules_assign(net->rules, spec->uid, RULES_OF_NETWORK, elements, count, &conflict, NULL,
			 err);
	if (r == -EADDRINUSE)
		return error_say(err, r, "network %s has the same gateway address: choose another",
				 rules_owner(net->rules, &elements[conflict]));
	return r;
}

/* Of a network with a tunnel: what the way to its peers allows, or as much of it as was asked for.
 */
static int choose_mtu(struct net *net, struct network_plan *plan, struct error *err)
{
	uint32_t most;
	int r;

	if (!tunnel_is_there(&plan->tunnel))
		return 0;
	r = tunnel_read_mtu(net, &plan->tunnel, &most, err);
	if (r < 0)
		return r;
	if (plan->mtu > most)
		return error_say(
			err, -EMSGSIZE,
			"mtu %u: the way to the peers leaves %u inside the tunnel; ask for "
			"that or less, or for none",
			plan->mtu, most);
	if (plan->mtu == 0)
		plan->mtu = most < MTU_DEFAULT ? most : MTU_DEFAULT;
	return check_mtu(plan, err);
}

int network_ensure(struct net *net, const struct bridge_spec *spec, struct bridge_status *ret,
		   struct error *err)
{
	AUTO(bridge_status_done) struct bridge_status status = {};
	struct network_plan plan;
	struct addresses addresses = { .plan = &plan };
	struct link bridge;
	int r = network_plan(spec, &plan, err);

	if (r < 0)
		return r;
	if (plan.subnet6.family && !net->ipv6)
		return error_say(err, -EAFNOSUPPORT,
				 "network %s has an ipv6 subnet, but this kernel has no IPv6",
				 spec->uid);
	if (plan.driver.kind != DRIVER_BRIDGE)
		return driver_ensure(net, spec, &plan, ret, err);
	if (spec->flow_log && !net->filter)
		return error_say(err, -EOPNOTSUPP,
				 "network %s: a flow log needs br_netfilter (option "
				 "BRIDGE_NETFILTER, or 'modprobe br_netfilter'), which this kernel "
				 "has not",
				 spec->uid);
	NET_LOCKED(net);
	r = choose_mtu(net, &plan, err);
	if (r < 0)
		return r;
	r = ensure_link(net, spec->uid, &bridge, &addresses, err);
	if (r < 0)
		return r;
	r = set_sysctls(bridge.name, spec, &plan, net->ipv6, err);
	if (r < 0)
		return r;
	/* Rules come before addresses: at no time is there a network without its walls. */
	r = ensure_rules(net, spec, bridge.name, &plan, &status.zone, err);
	if (r < 0)
		return r;
	r = link_set(net->nl, bridge.index,
		     &(struct link_change){ .alias = spec->uid,
					    .mtu = plan.mtu,
					    .group = RULES_DEVICES_INSIDE,
					    .up = true });
	mix_set_stranger(rules_mix(net->rules), spec->uid,
			 plan.tunnel.vxlan.vni ? bridge.name : NULL);
	mix_set_logged(rules_mix(net->rules), spec->uid, spec->flow_log ? bridge.name : NULL);
	if (r == 0)
		/* It stays on: a new agent has not heard of the routers yet, for one. */
		r = link_guard_bridge(net->nl, bridge.index,
				      bridge.filters || guard_needs_filter(net, bridge.name));
	if (r < 0)
		return error_set(err, r, "cannot set up bridge %s%s", bridge.name,
				 net_detail(net->nl));
	r = advertise_ensure(net, spec->uid, &plan, err);
	if (r == 0)
		r = ensure_addresses(net, &bridge, &addresses, err);
	if (r == 0)
		r = tunnel_ensure(net, spec->uid, bridge.index, &plan.tunnel, plan.mtu, err);
	if (r < 0)
		return r;
	status.mtu = plan.mtu;
	status.uplink.index = bridge.index;
	memcpy(status.bridge, bridge.name, sizeof(status.bridge));
	r = dns_ensure(net, spec->uid, bridge.name, &plan, &status.dns, err);
	if (r == 0 && plan.dhcp)
		r = dhcp_ensure(net, spec->uid, bridge.name, &plan, &status.dhcp, err);
	if (r < 0)
		return r;
	*ret = status;
	status = (struct bridge_status){};
	return 0;
}

int network_remove_locked(struct net *net, const char *uid, struct error *err)
{
	char name[IF_NAMESIZE];
	struct link bridge;
	size_t conflict;
	bool ours;
	int r, found;

	r = tunnel_ensure(net, uid, 0, &(struct tunnel_plan){}, 0, err);
	if (r < 0)
		return r;
	mix_set_stranger(rules_mix(net->rules), uid, NULL);
	mix_set_logged(rules_mix(net->rules), uid, NULL);
	name_bridge(net->prefix, uid, name);
	found = link_find(net->nl, name, &bridge);
	ours = found == 0 && strcmp(bridge.kind, "bridge") == 0 &&
	       (!bridge.alias[0] || strcmp(bridge.alias, uid) == 0);
	r = advertise_forget(net, uid, ours ? bridge.index : 0, err);
	if (r < 0)
		return r;
	r = ours ? link_delete(net->nl, bridge.index) : found;
	if (r < 0 && r != -ENODEV)
		return error_set(err, r, "cannot remove bridge %s%s", name, net_detail(net->nl));
	r = rules_assign(net->rules, uid, RULES_OF_NETWORK, NULL, 0, &conflict, NULL, err);
	if (r < 0)
		return r;
	return dns_remove(net, uid, err);
}

int network_remove(struct net *net, const char *uid, struct error *err)
{
	if (!name_is_uid(uid))
		return error_say(err, -EINVAL,
				 "network uid '%.40s': must be 1 to 32 of 0-9 and a-f",
				 uid ? uid : "");
	int r = driver_remove(net, uid, err);

	if (r < 0)
		return r;
	NET_LOCKED(net);
	return network_remove_locked(net, uid, err);
}
