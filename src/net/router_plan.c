#include "net/router_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "net/address.h"
#include "net/network.h"

/* From words to addresses: everything is checked here, wherever it came from. */

static bool is_given(const char *text)
{
	return text && text[0];
}

static int plan_leg_family(const char *subnet_text, const char *text, int family,
			   struct route_ip *subnet, struct route_ip *ip, struct error *err)
{
	if (!is_given(subnet_text)) {
		if (is_given(text))
			return error_say(err, -EINVAL,
					 "router address '%.64s': its network has no such subnet",
					 text);
		return 0;
	}
	if (address_parse_subnet(subnet_text, subnet) < 0 || subnet->family != family)
		return error_say(err, -EINVAL, "subnet '%.64s': must be one, host bits zero",
				 subnet_text);
	if (!is_given(text))
		return 0;
	if (address_parse(text, ip) < 0 || !address_is_host(subnet, ip))
		return error_say(err, -EINVAL, "router address '%.64s': must be an address of %s",
				 text, subnet_text);
	ip->prefix = subnet->prefix;
	return 0;
}

static int plan_leg(const struct net *net, const char *uid, const struct router_leg *leg,
		    struct router_leg_plan *ret, struct error *err)
{
	int r;

	if (!name_is_uid(leg->network_uid))
		return error_say(err, -EINVAL,
				 "network uid '%.40s': must be 1 to 32 of 0-9 and a-f",
				 leg->network_uid ? leg->network_uid : "");
	if (leg->mtu < 576 || leg->mtu > NETWORK_MTU_MAX)
		return error_say(err, -EINVAL, "mtu %u: must be 576 to %d", leg->mtu,
				 NETWORK_MTU_MAX);
	ret->network_uid = leg->network_uid;
	ret->mtu = leg->mtu;
	r = plan_leg_family(leg->subnet4, leg->ipv4, AF_INET, &ret->subnet4, &ret->ipv4, err);
	if (r == 0)
		r = plan_leg_family(leg->subnet6, leg->ipv6, AF_INET6, &ret->subnet6, &ret->ipv6,
				    err);
	if (r < 0)
		return r;
	if (!ret->ipv4.family && !ret->ipv6.family)
		return error_say(err, -EINVAL, "router %s: has no address on network %s", uid,
				 leg->network_uid);
	if (net)
		name_router_port(net->prefix, uid, leg->network_uid, ret->outside);
	snprintf(ret->inside, sizeof(ret->inside), "n%.14s", leg->network_uid);
	name_router_mac(uid, leg->network_uid, ret->mac);
	return 0;
}

static bool overlap(const struct route_ip *a, const struct route_ip *b)
{
	return a->family && a->family == b->family && address_overlap(a, b);
}

static int plan_legs(const struct net *net, const struct router_setup *setup,
		     struct router_plan *plan, struct error *err)
{
	if (setup->leg_count > ROUTER_LEGS_MAX)
		return error_say(err, -E2BIG, "%zu networks: a router may join %d",
				 setup->leg_count, ROUTER_LEGS_MAX);
	for (size_t i = 0; i < setup->leg_count; i++) {
		struct router_leg_plan *leg = &plan->legs[i];
		int r = plan_leg(net, setup->uid, &setup->legs[i], leg, err);

		if (r < 0)
			return r;
		for (size_t k = 0; k < i; k++)
			if (overlap(&leg->subnet4, &plan->legs[k].subnet4) ||
			    overlap(&leg->subnet6, &plan->legs[k].subnet6) ||
			    strcmp(leg->inside, plan->legs[k].inside) == 0)
				return error_say(err, -EINVAL,
						 "networks %s and %s have addresses in common: no "
						 "router can join both",
						 plan->legs[k].network_uid, leg->network_uid);
	}
	plan->leg_count = setup->leg_count;
	return 0;
}

/* The IPv6 ends have the same number in a range of ours. */
static int plan_transit(const struct net *net, const struct router_setup *setup,
			struct router_plan *plan, struct error *err)
{
	struct route_ip range, base;
	int r = address_parse_subnet("100.64.0.0/16", &range);

	if (!setup->uplink)
		return 0;
	if (r == 0)
		r = address_parse_subnet("fd62:7275:6d65:6400::/112", &base);
	if (r == 0)
		r = address_parse(setup->transit ? setup->transit : "", &plan->node4);
	if (r < 0 || !address_inside(&range, &plan->node4) || plan->node4.bytes[3] & 1)
		return error_say(err, -EINVAL,
				 "transit '%.64s': must be an even address of 100.64.0.0/16",
				 setup->transit ? setup->transit : "");
	plan->node4.prefix = 31;
	plan->own4 = plan->node4;
	plan->own4.bytes[3] |= 1;
	if (net)
		name_router_uplink(net->prefix, setup->uid, plan->outside);
	if (net && !net->ipv6)
		return 0;
	plan->node6 = base;
	plan->node6.prefix = 127;
	memcpy(plan->node6.bytes + 14, plan->node4.bytes + 2, 2);
	plan->own6 = plan->node6;
	plan->own6.bytes[15] |= 1;
	return 0;
}

static int plan_statics(const struct router_setup *setup, struct router_plan *plan,
			struct error *err)
{
	if (setup->static_count > ROUTER_ITEMS_MAX)
		return error_say(err, -E2BIG, "%zu routes: a router may have %d",
				 setup->static_count, ROUTER_ITEMS_MAX);
	for (size_t i = 0; i < setup->static_count; i++) {
		const struct router_static *from = &setup->statics[i];
		struct router_static_plan *to = &plan->statics[i];
		size_t leg = 0;

		if (address_parse_subnet(from->to ? from->to : "", &to->to) < 0 ||
		    address_parse(from->via ? from->via : "", &to->via) < 0 ||
		    to->to.family != to->via.family)
			return error_say(err, -EINVAL,
					 "route '%.64s' via '%.64s': must be a subnet and an "
					 "address of the same kind",
					 from->to ? from->to : "", from->via ? from->via : "");
		if (setup->uplink && to->to.prefix == 0)
			return error_say(err, -EINVAL,
					 "route %s: a router with an uplink has that one already",
					 from->to);
		for (; leg < plan->leg_count; leg++)
			if (address_is_host(to->via.family == AF_INET ? &plan->legs[leg].subnet4
								      : &plan->legs[leg].subnet6,
					    &to->via))
				break;
		if (leg == plan->leg_count)
			return error_say(err, -EINVAL,
					 "route %s via %s: that is on none of the router's "
					 "networks",
					 from->to, from->via);
		to->leg = leg;
	}
	plan->static_count = setup->static_count;
	return 0;
}

/* Packets to others and from nowhere. */
static bool is_public(const struct route_ip *ip)
{
	static const char *const others[] = { "0.0.0.0/8",     "127.0.0.0/8", "169.254.0.0/16",
					      "100.64.0.0/16", "224.0.0.0/3", "::/127",
					      "fe80::/10",     "ff00::/8" };
	struct route_ip range;

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (address_parse_subnet(others[i], &range) == 0 && range.family == ip->family &&
		    address_inside(&range, ip))
			return false;
	return true;
}

static int plan_target(const char *text, int family, struct route_ip *ret, struct error *err)
{
	if (!is_given(text))
		return 0;
	if (address_parse(text, ret) < 0 || ret->family != family)
		return error_say(err, -EINVAL, "target '%.64s': must be an %s address", text,
				 family == AF_INET ? "IPv4" : "IPv6");
	return 0;
}

static int plan_publics(const struct router_setup *setup, struct router_plan *plan,
			struct error *err)
{
	if (setup->public_count > ROUTER_ITEMS_MAX)
		return error_say(err, -E2BIG, "%zu floating addresses: a router may have %d",
				 setup->public_count, ROUTER_ITEMS_MAX);
	if (setup->public_count && !setup->uplink)
		return error_say(err, -EINVAL,
				 "a router without an uplink has no floating addresses");
	for (size_t i = 0; i < setup->public_count; i++) {
		const struct router_public *from = &setup->publics[i];
		struct router_public_plan *to = &plan->publics[i];
		int r;

		if (address_parse(from->address ? from->address : "", &to->address) < 0 ||
		    !is_public(&to->address))
			return error_say(err, -EINVAL,
					 "floating address '%.64s': must be one that others send "
					 "packets to",
					 from->address ? from->address : "");
		r = plan_target(from->target, to->address.family, &to->target, err);
		if (r < 0)
			return r;
		for (size_t k = 0; k < i; k++)
			if (address_equal(&plan->publics[k].address, &to->address))
				return error_say(err, -EINVAL,
						 "floating address %s: is there twice",
						 from->address);
	}
	plan->public_count = setup->public_count;
	return 0;
}

static bool has_public(const struct router_plan *plan, const struct route_ip *ip)
{
	for (size_t i = 0; i < plan->public_count; i++)
		if (address_equal(&plan->publics[i].address, ip))
			return true;
	return false;
}

static bool same_door(const struct router_door_plan *a, const struct router_door_plan *b)
{
	return a->port == b->port && strcmp(a->protocol, b->protocol) == 0 &&
	       address_equal(&a->address, &b->address);
}

static int plan_door(const struct router_door *from, const struct router_plan *plan,
		     struct router_door_plan *to, struct error *err)
{
	int r;

	if (!from->protocol ||
	    (strcmp(from->protocol, "tcp") != 0 && strcmp(from->protocol, "udp") != 0))
		return error_say(err, -EINVAL, "protocol '%.16s': must be tcp or udp",
				 from->protocol ? from->protocol : "");
	if (!from->port || !from->target_port)
		return error_say(err, -EINVAL, "a port must be 1 to 65535");
	*to = (struct router_door_plan){ .protocol = from->protocol,
					 .port = from->port,
					 .target_port = from->target_port };
	if (is_given(from->address) &&
	    (address_parse(from->address, &to->address) < 0 || !has_public(plan, &to->address)))
		return error_say(err, -EINVAL,
				 "forward of '%.64s': must be a floating address of the router",
				 from->address);
	r = plan_target(from->target4, AF_INET, &to->target4, err);
	return r < 0 ? r : plan_target(from->target6, AF_INET6, &to->target6, err);
}

static int plan_doors(const struct router_setup *setup, struct router_plan *plan, struct error *err)
{
	if (setup->door_count > ROUTER_ITEMS_MAX)
		return error_say(err, -E2BIG, "%zu forwards: a router may have %d",
				 setup->door_count, ROUTER_ITEMS_MAX);
	if (setup->door_count && !setup->uplink)
		return error_say(err, -EINVAL, "a router without an uplink forwards no ports");
	for (size_t i = 0; i < setup->door_count; i++) {
		int r = plan_door(&setup->doors[i], plan, &plan->doors[i], err);

		if (r < 0)
			return r;
		for (size_t k = 0; k < i; k++)
			if (same_door(&plan->doors[k], &plan->doors[i]))
				return error_say(err, -EINVAL, "port %u/%s: is forwarded twice",
						 plan->doors[i].port, plan->doors[i].protocol);
	}
	plan->door_count = setup->door_count;
	return 0;
}

int router_plan(const struct net *net, const struct router_setup *setup, struct router_plan *ret,
		struct error *err)
{
	int r;

	*ret = (struct router_plan){ .uid = setup->uid,
				     .uplink = setup->uplink,
				     .nat = setup->nat,
				     .advertise = setup->advertise };
	if (!name_is_uid(setup->uid))
		return error_say(err, -EINVAL, "router uid '%.40s': must be 1 to 32 of 0-9 and a-f",
				 setup->uid ? setup->uid : "");
	r = plan_legs(net, setup, ret, err);
	if (r == 0)
		r = plan_transit(net, setup, ret, err);
	if (r == 0)
		r = plan_statics(setup, ret, err);
	if (r == 0)
		r = plan_publics(setup, ret, err);
	return r < 0 ? r : plan_doors(setup, ret, err);
}
