#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "control/router_internal.h"

/* The networks that a router joins, its addresses there, and the static routes among them. */

/* The address in one family: what was asked for, else the place `n` of the subnet. */
static int complete_address(const struct item *network, const struct subnet *subnet, uint64_t n,
			    char text[IP_TEXT_SIZE], struct error *err)
{
	char range[SUBNET_TEXT_SIZE];
	struct ip ip;

	if (!subnet->base.family && text[0])
		return error_say(err, -EINVAL, "address %s: network \"%s\" has no such subnet",
				 text, network->meta->name);
	if (!subnet->base.family)
		return 0;
	if (!text[0] && n <= subnet_host_count(subnet)) {
		subnet_nth(subnet, n, &ip);
		ip_format(&ip, text);
	}
	if (!text[0])
		return 0;
	subnet_format(subnet, range);
	if (ip_parse(text, &ip) < 0 || subnet_index(subnet, &ip) == 0)
		return error_say(err, -EINVAL, "address %s is not one of %s, network \"%s\"", text,
				 range, network->meta->name);
	return 0;
}

/* Where in the subnet an address of either family is that was asked for; else the gateway's. */
static uint64_t place_of(const struct router_network *joined, const struct network_spec *spec)
{
	struct ip ip;
	uint64_t n = 0;

	if (joined->ipv4[0] && ip_parse(joined->ipv4, &ip) == 0)
		n = subnet_index(&spec->ipv4, &ip);
	else if (joined->ipv6[0] && ip_parse(joined->ipv6, &ip) == 0)
		n = subnet_index(&spec->ipv6, &ip);
	return n > 0 ? n : 1;
}

static int complete_network(struct draft *draft, const struct router *router,
			    struct router_network *joined, struct error *err)
{
	struct item *item =
		mirror_find(draft->control, KIND_NETWORK, router->meta.project, joined->network);
	const struct network_spec *spec;
	uint64_t n;
	int r;

	if (!item)
		return error_say(err, -ENOENT, "network \"%s\" does not exist", joined->network);
	if (item->meta->deleted_ms)
		return error_say(err, -EBUSY, "network \"%s\" is being deleted", joined->network);
	spec = &item_network(item)->spec;
	if (spec->driver != NETWORK_DRIVER_BRIDGE)
		return error_say(err, -EINVAL,
				 "network \"%s\" has driver %s: a router joins networks of driver "
				 "bridge only",
				 joined->network, network_driver_names[spec->driver]);
	if (!spec->isolated)
		return error_say(err, -EINVAL,
				 "network \"%s\" has a gateway already, the node: a router joins "
				 "isolated networks only (brume network create --isolated NAME)",
				 joined->network);
	memcpy(joined->uid, item->meta->uid, UID_SIZE);
	n = place_of(joined, spec);
	r = complete_address(item, &spec->ipv4, n, joined->ipv4, err);
	if (r == 0)
		r = complete_address(item, &spec->ipv6, n, joined->ipv6, err);
	if (r == 0)
		draft_require(draft, item);
	return r;
}

static const struct network_spec *network_of(struct control *control,
					     const struct router_network *joined)
{
	const struct item *item = mirror_find_uid(control, joined->uid);

	return item && item->kind == KIND_NETWORK ? &item_network(item)->spec : NULL;
}

static int take_address(struct draft *draft, const struct router *router,
			const struct router_network *joined, const char *address, struct error *err)
{
	char key[CLAIM_KEY_SIZE], what[2 * IP_TEXT_SIZE + PORT_NETWORK_SIZE];

	if (!address[0])
		return 0;
	router_address_key(key, joined->uid, address);
	snprintf(what, sizeof(what), "address %s of network \"%s\"", address, joined->network);
	return router_claim(draft, router, key, what, err);
}

/* No two of its networks have an address in common, nor one with what the node routes itself. */
static int check_subnet(struct control *control, const struct router *router, size_t at,
			const struct subnet *subnet, struct error *err)
{
	const struct router_spec *spec = &router->spec;
	char text[SUBNET_TEXT_SIZE];
	struct subnet transit;
	const struct item *other;

	if (!subnet->base.family)
		return 0;
	subnet_format(subnet, text);
	for (size_t i = 0; i < at; i++) {
		const struct network_spec *network = network_of(control, &spec->networks[i]);

		if (network && (subnet_overlaps(&network->ipv4, subnet) ||
				subnet_overlaps(&network->ipv6, subnet)))
			return error_say(
				err, -EEXIST,
				"networks \"%s\" and \"%s\" have addresses in common (%s): "
				"no router can join both",
				spec->networks[i].network, spec->networks[at].network, text);
	}
	if (!spec->uplink)
		return 0;
	if (subnet_parse("100.64.0.0/16", 4, "", &transit, NULL) == 0 &&
	    subnet_overlaps(&transit, subnet))
		return error_say(err, -EEXIST,
				 "network \"%s\": %s meets 100.64.0.0/16, which routers with an "
				 "uplink need",
				 spec->networks[at].network, text);
	other = spec->nat ? NULL
			  : network_overlapping(control, subnet,
						mirror_find_uid(control, spec->networks[at].uid));
	return other ? error_say(err, -EEXIST,
				 "network \"%s\": %s overlaps with network \"%s\", which a router "
				 "without NAT cannot be told apart from",
				 spec->networks[at].network, text, other->meta->name)
		     : 0;
}

int router_complete_networks(struct draft *draft, struct router *router, struct error *err)
{
	struct router_spec *spec = &router->spec;
	struct control *control = draft->control;
	int r = 0;

	for (size_t i = 0; i < spec->network_count && r == 0; i++) {
		struct router_network *joined = &spec->networks[i];
		const struct network_spec *network;

		r = complete_network(draft, router, joined, err);
		if (r < 0)
			return r;
		network = network_of(control, joined);
		r = check_subnet(control, router, i, &network->ipv4, err);
		if (r == 0)
			r = check_subnet(control, router, i, &network->ipv6, err);
		if (r == 0)
			r = take_address(draft, router, joined, joined->ipv4, err);
		if (r == 0)
			r = take_address(draft, router, joined, joined->ipv6, err);
	}
	return r;
}

const struct router_network *router_joined_with(struct control *control,
						const struct router_spec *spec, const struct ip *ip)
{
	for (size_t i = 0; i < spec->network_count; i++) {
		const struct network_spec *network = network_of(control, &spec->networks[i]);

		if (network &&
		    subnet_contains(ip->family == 4 ? &network->ipv4 : &network->ipv6, ip))
			return &spec->networks[i];
	}
	return NULL;
}

static bool is_own(const struct router_network *joined, const struct ip *ip)
{
	char text[IP_TEXT_SIZE];

	ip_format(ip, text);
	return strcmp(joined->ipv4, text) == 0 || strcmp(joined->ipv6, text) == 0;
}

int router_check_routes(struct control *control, const struct router_spec *spec, struct error *err)
{
	for (size_t i = 0; i < spec->route_count; i++) {
		const struct router_route *route = &spec->routes[i];
		const struct router_network *joined =
			router_joined_with(control, spec, &route->via);
		char to[SUBNET_TEXT_SIZE], via[IP_TEXT_SIZE];

		subnet_format(&route->to, to);
		ip_format(&route->via, via);
		if (!joined)
			return error_say(err, -EINVAL,
					 "route %s: %s is on none of the router's networks", to,
					 via);
		if (is_own(joined, &route->via))
			return error_say(err, -EINVAL, "route %s: %s is the router itself", to,
					 via);
		if (spec->uplink && route->to.prefix == 0)
			return error_say(err, -EINVAL,
					 "route %s: a router with an uplink has that one already",
					 to);
		joined = router_joined_with(control, spec, &route->to.base);
		if (joined && route->to.prefix > 0 &&
		    route->to.prefix >= (route->to.base.family == 4
						 ? network_of(control, joined)->ipv4.prefix
						 : network_of(control, joined)->ipv6.prefix))
			return error_say(err, -EINVAL,
					 "route %s: that is network \"%s\", which the router joins "
					 "itself",
					 to, joined->network);
	}
	return 0;
}
