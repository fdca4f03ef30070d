#include <string.h>

#include "model/trace_internal.h"

/* A router: what it translates, where it routes, and what it lets pass. */

void walk_to_router(struct walk *walk, const struct router *router, const struct network *network)
{
	walk->place = WALK_ROUTER;
	walk->router = router;
	walk->network = network;
}

/* Where an address leads from inside a router. */
struct way {
	const struct router_network *leg; /* NULL: by the uplink, or (!found) nowhere */
	struct ip via;                    /* family 0: a neighbour */
	bool found;
};

static const struct network *network_of(const struct walk *walk, const struct router_network *leg)
{
	return look_network(walk->world, leg->uid);
}

static const struct router_network *find_leg(const struct walk *walk, const struct ip *ip)
{
	const struct router_spec *spec = &walk->router->spec;

	for (size_t i = 0; i < spec->network_count; i++) {
		const struct network *network = network_of(walk, &spec->networks[i]);

		if (network && joined_address(&spec->networks[i], ip->family).family &&
		    subnet_contains(network_subnet(network, ip->family), ip))
			return &spec->networks[i];
	}
	return NULL;
}

static struct way find_way(const struct walk *walk, const struct ip *ip)
{
	const struct router_spec *spec = &walk->router->spec;
	const struct router_network *leg = find_leg(walk, ip);
	struct way way = { .leg = leg, .found = leg != NULL };
	int longest = leg ? network_subnet(network_of(walk, leg), ip->family)->prefix : -1;

	for (size_t i = 0; i < spec->route_count; i++) {
		const struct router_route *route = &spec->routes[i];

		if (route->to.prefix <= longest || !subnet_contains(&route->to, ip))
			continue;
		leg = find_leg(walk, &route->via);
		if (!leg)
			continue;
		way = (struct way){ .leg = leg, .via = route->via, .found = true };
		longest = route->to.prefix;
	}
	way.found = way.found || spec->uplink;
	return way;
}

static bool is_own(const struct walk *walk, const struct ip *ip)
{
	const struct router_spec *spec = &walk->router->spec;
	struct ip own = router_own_end(walk->router, ip->family);

	if (own.family && ip_equal(&own, ip))
		return true;
	for (size_t i = 0; i < spec->network_count; i++) {
		own = joined_address(&spec->networks[i], ip->family);
		if (own.family && ip_equal(&own, ip))
			return true;
	}
	return false;
}

static void drop(struct walk *walk, enum trace_verdict verdict, const char *text)
{
	walk_hop(walk, TRACE_ROUTER, TRACE_HOP_DROPPED, walk_name(walk, &walk->router->meta), "%s",
		 text);
	walk_end(walk, verdict);
}

/* Nobody sends with an address that the router would not answer there. */
static bool is_source_known(struct walk *walk)
{
	struct way way = find_way(walk, &walk->packet.source);
	char source[IP_TEXT_SIZE];

	if (!walk->network || (way.found && way.leg && network_of(walk, way.leg) == walk->network))
		return true;
	ip_format(&walk->packet.source, source);
	walk_hop(walk, TRACE_ROUTER, TRACE_HOP_DROPPED, walk_name(walk, &walk->router->meta),
		 "router %s has no route back to %s by network %s, so it does not take it",
		 walk_name(walk, &walk->router->meta), source,
		 walk_name(walk, &walk->network->meta));
	walk_end(walk, TRACE_DROPPED);
	return false;
}

/* What goes to the next address came from another router: a way back is by that one's address. */
static void advise_way_back(struct walk *walk)
{
	const struct network *home = NULL;
	char subnet[SUBNET_TEXT_SIZE];
	unsigned int family = walk->packet.source.family;

	for (size_t i = 0; i < walk->from->spec.port_count; i++) {
		struct ip own = port_address(&walk->from->spec.ports[i], family);

		if (ip_equal(&own, &walk->packet.source))
			home = look_network(walk->world, walk->from->spec.ports[i].network_uid);
	}
	for (size_t i = 0; home && i < walk->world->router_count; i++) {
		const struct router *other = walk->world->routers[i];
		const struct router_network *here =
			router_find_network(&other->spec, walk->network->meta.uid);
		struct ip via = here ? joined_address(here, family) : (struct ip){};
		char text[IP_TEXT_SIZE];

		if (other == walk->router || !via.family ||
		    !router_find_network(&other->spec, home->meta.uid))
			continue;
		subnet_format(network_subnet(home, family), subnet);
		ip_format(&via, text);
		walk_advise(walk, "router route add %s %s %s", walk->router->meta.name, subnet,
			    text);
		return;
	}
}

/* ---- answers */

static bool has_new_destination(const struct trace *trace)
{
	for (size_t i = 0; i < trace->hop_count; i++)
		if (trace->hops[i].verdict == TRACE_TRANSLATED &&
		    !ip_equal(&trace->hops[i].before.destination,
			      &trace->hops[i].after.destination))
			return true;
	return false;
}

const struct router *walk_lost_answer(const struct walk *walk, const struct ip *via)
{
	struct owner owner =
		via->family ? look_owner(walk->world, walk->network, via) : (struct owner){};
	struct walk back = *walk;

	/* By the one that brought it: its guard has seen that it knows the way. */
	if (owner.kind != OWNER_ROUTER ||
	    (walk->sender == WALK_BY_ROUTER && owner.router == walk->router))
		return NULL;
	back.router = owner.router;
	for (int places = 0; places < WALK_PLACES_MAX; places++) {
		struct way way = find_way(&back, &walk->packet.source);

		if (!way.found || !way.leg || has_new_destination(walk->trace))
			return owner.router;
		if (!way.via.family)
			return NULL;
		owner = look_owner(walk->world, network_of(&back, way.leg), &way.via);
		if (owner.kind != OWNER_ROUTER)
			return back.router;
		back.router = owner.router;
	}
	return back.router;
}

/* ---- what is translated as it comes in */

static bool enter_forward(struct walk *walk)
{
	const struct router_spec *spec = &walk->router->spec;
	struct trace_packet before = walk->packet;
	unsigned int family = before.destination.family;
	struct ip own = router_own_end(walk->router, family);

	for (size_t i = 0; before.protocol != TRACE_ICMP && i < spec->forward_count; i++) {
		const struct router_forward *forward = &spec->forwards[i];
		const struct ip *at = forward->address.family ? &forward->address : &own;
		const struct ip *to = family == 4 ? &forward->target.ipv4 : &forward->target.ipv6;

		if (!at->family || !ip_equal(at, &before.destination) || !to->family ||
		    forward->port != before.port ||
		    before.protocol != (forward->protocol == PROTOCOL_TCP ? TRACE_TCP : TRACE_UDP))
			continue;
		walk->packet.destination = *to;
		walk->packet.port = forward->target_port;
		walk_translate(walk, TRACE_FORWARD, walk_name(walk, &walk->router->meta), &before,
			       "router %s forwards port %u", walk_name(walk, &walk->router->meta),
			       before.port);
		return true;
	}
	return false;
}

/* 1: translated; 0: it is none; negative: the walk has ended. */
static int enter_floating(struct walk *walk)
{
	const struct router_spec *spec = &walk->router->spec;
	struct trace_packet before = walk->packet;
	const char *name = walk_name(walk, &walk->router->meta);
	char text[IP_TEXT_SIZE];

	for (size_t i = 0; i < spec->floating_count; i++) {
		const struct router_floating *floating = &spec->floating[i];
		const struct ip *to = before.destination.family == 4 ? &floating->target.ipv4
								     : &floating->target.ipv6;

		if (!ip_equal(&floating->address, &before.destination))
			continue;
		ip_format(&floating->address, text);
		if (!to->family) {
			walk_hop(walk, TRACE_ROUTER, TRACE_HOP_DROPPED, name,
				 "floating address %s of router %s leads nowhere on this port",
				 text, name);
			walk_end(walk, TRACE_UNREACHABLE);
			return -1;
		}
		walk->packet.destination = *to;
		walk_translate(walk, TRACE_NAT, name, &before, "floating address %s of router %s",
			       text, name);
		return 1;
	}
	return 0;
}

/* ---- and as it goes out */

static void return_through_router(struct walk *walk, const struct router_network *leg)
{
	struct trace_packet before = walk->packet;
	const struct network *network = network_of(walk, leg);

	if (!before.source.family ||
	    !subnet_contains(network_subnet(network, before.source.family), &before.source))
		return;
	walk->packet.source = joined_address(leg, before.source.family);
	walk_translate(walk, TRACE_NAT, walk_name(walk, &walk->router->meta), &before,
		       "with the router's address there, so that the answer returns through it");
}

static void leave_by_uplink(struct walk *walk)
{
	const struct router_spec *spec = &walk->router->spec;
	struct trace_packet before = walk->packet;
	const char *name = walk_name(walk, &walk->router->meta);
	unsigned int family = before.source.family;

	for (size_t i = 0; i < spec->floating_count; i++) {
		const struct router_floating *floating = &spec->floating[i];
		const struct ip *of = family == 4 ? &floating->target.ipv4 : &floating->target.ipv6;

		if (floating->address.family != family || !of->family ||
		    !ip_equal(of, &before.source))
			continue;
		walk->packet.source = floating->address;
		walk_translate(walk, TRACE_NAT, name, &before,
			       "with its floating address, by router %s", name);
		walk_to_node(walk, NULL, walk->router);
		return;
	}
	if (spec->nat) {
		walk->packet.source = router_own_end(walk->router, family);
		walk_translate(walk, TRACE_NAT, name, &before, "with the address of router %s",
			       name);
	}
	walk_to_node(walk, NULL, walk->router);
}

/* Is it an instance's on a network that the router could join? */
static void advise_join(struct walk *walk)
{
	const struct ip *to = &walk->packet.destination;

	for (size_t i = 0; walk->meant && walk_is_ours(walk, &walk->router->meta) &&
			   i < walk->meant->spec.port_count;
	     i++) {
		const struct port *port = &walk->meant->spec.ports[i];
		const struct network *network = look_network(walk->world, port->network_uid);
		struct ip own = port_address(port, to->family);

		if (ip_equal(&own, to) && network && network->spec.isolated)
			walk_advise(walk, "router attach %s %s", walk->router->meta.name,
				    port->network);
	}
}

static void route(struct walk *walk, bool translated)
{
	struct way way = find_way(walk, &walk->packet.destination);
	const char *name = walk_name(walk, &walk->router->meta);
	const struct network *network;
	char to[IP_TEXT_SIZE];

	ip_format(&walk->packet.destination, to);
	if (!way.found) {
		walk_hop(walk, TRACE_ROUTER, TRACE_HOP_DROPPED, name,
			 "router %s has no route to %s, and no uplink", name, to);
		walk_end(walk, TRACE_UNREACHABLE);
		advise_join(walk);
		return;
	}
	if (!walk->network && walk->router->spec.nat && !translated) {
		drop(walk, TRACE_DROPPED,
		     "a router with NAT lets nothing in from outside but answers, forwards and "
		     "floating addresses");
		return;
	}
	if (!way.leg && !walk->network) {
		drop(walk, TRACE_UNREACHABLE, "it would go back to the node: a circle");
		return;
	}
	if (!way.leg) {
		walk_hop(walk, TRACE_ROUTER, TRACE_PASSES, name,
			 "router %s leads outside by the node", name);
		leave_by_uplink(walk);
		return;
	}
	network = network_of(walk, way.leg);
	walk_hop(walk, TRACE_ROUTER, TRACE_PASSES, name, "router %s leads to network %s%s", name,
		 walk_name(walk, &network->meta), way.via.family ? " by a static route" : "");
	if (translated)
		return_through_router(walk, way.leg);
	walk_to_segment(walk, network, WALK_BY_ROUTER,
			way.via.family ? &way.via : &walk->packet.destination);
}

void walk_router(struct walk *walk)
{
	const struct router *router = walk->router;
	bool translated;
	int r;

	if (router->status.state == ROUTER_FAILED) {
		drop(walk, TRACE_DROPPED,
		     router->status.error && walk_is_ours(walk, &router->meta)
			     ? router->status.error
			     : "the router has failed");
		return;
	}
	if (!is_source_known(walk)) {
		advise_way_back(walk);
		return;
	}
	translated = enter_forward(walk);
	r = translated ? 1 : enter_floating(walk);
	if (r < 0)
		return;
	if (r == 0 && is_own(walk, &walk->packet.destination)) {
		bool ping = walk->packet.protocol == TRACE_ICMP;

		walk_hop(walk, TRACE_ROUTER, ping ? TRACE_PASSES : TRACE_HOP_DROPPED,
			 walk_name(walk, &router->meta),
			 "router %s itself: it answers pings, and serves nothing",
			 walk_name(walk, &router->meta));
		walk_end(walk, ping ? TRACE_DELIVERED : TRACE_UNREACHABLE);
		return;
	}
	route(walk, r > 0);
}
