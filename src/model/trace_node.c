#include <stdio.h>
#include <string.h>

#include "base/strbuf.h"
#include "model/trace_internal.h"

/* The node: ports of its own that lead to instances, its services, walls, and the way outside. */

void walk_to_node(struct walk *walk, const struct network *network, const struct router *router)
{
	walk->place = WALK_NODE;
	walk->network = network;
	walk->router = router;
}

/* What stands behind a port of the node. */
struct door {
	const struct balancer *balancer;
	const struct balancer_listen *listen;
	const struct instance *instance;
	const struct publish *publish;
	const struct router *router;
};

static bool fits_place(const struct trace_packet *packet, enum protocol protocol, uint16_t port)
{
	return packet->port == port &&
	       packet->protocol == (protocol == PROTOCOL_TCP ? TRACE_TCP : TRACE_UDP);
}

static bool is_text(const struct ip *ip, const char *text)
{
	struct ip other;

	return ip_parse(text, &other) == 0 && ip_equal(ip, &other);
}

static bool is_vip_of(const struct balancer *balancer, const struct ip *ip)
{
	return is_text(ip, ip->family == 4 ? balancer->spec.vip4 : balancer->spec.vip6);
}

/* From its own network, and from outside when that is routed. */
static bool is_vip_reached(const struct walk *walk, const struct balancer *balancer)
{
	const struct network *home = look_network(walk->world, balancer->spec.network_uid);

	return home && (walk->network == home || (!walk->network && !home->spec.nat));
}

/* Is it one of the node's, as far as we know them? */
static bool is_local(const struct walk *walk, const struct ip *ip)
{
	const struct trace_world *world = walk->world;

	for (size_t i = 0; i < world->network_count; i++) {
		const struct network *network = world->networks[i];
		struct ip gateway = look_gateway(world, network, ip->family);

		if (network_has_node(network) && gateway.family && ip_equal(&gateway, ip))
			return true;
	}
	for (size_t i = 0; i < world->balancer_count; i++) {
		const struct balancer_spec *spec = &world->balancers[i]->spec;

		if (is_vip_of(world->balancers[i], ip))
			return true;
		for (size_t k = 0; k < spec->listen_count; k++)
			if (is_text(ip, spec->listens[k].address))
				return true;
	}
	for (size_t i = 0; i < world->router_count; i++) {
		struct ip end = router_node_end(world->routers[i], ip->family);

		if (end.family && ip_equal(&end, ip))
			return true;
	}
	for (size_t i = 0; i < world->instance_count; i++)
		for (size_t k = 0; k < world->instances[i]->spec.publish_count; k++)
			if (is_text(ip, world->instances[i]->spec.publish[k].host_ip))
				return true;
	return false;
}

enum exactness { AT_VIP, AT_ADDRESS, AT_ANY };

static bool fits_listen(const struct walk *walk, const struct balancer *balancer,
			const struct balancer_listen *listen, enum exactness exactness)
{
	const struct ip *to = &walk->packet.destination;

	if (!fits_place(&walk->packet, listen->protocol, listen->port))
		return false;
	if (exactness == AT_VIP)
		return listen->vip && is_vip_of(balancer, to) && is_vip_reached(walk, balancer);
	return !listen->vip &&
	       (exactness == AT_ANY ? !listen->address[0] : is_text(to, listen->address));
}

static bool find_balancer(const struct walk *walk, enum exactness exactness, struct door *ret)
{
	for (size_t i = 0; i < walk->world->balancer_count; i++) {
		const struct balancer *balancer = walk->world->balancers[i];

		for (size_t k = 0; k < balancer->spec.listen_count; k++)
			if (fits_listen(walk, balancer, &balancer->spec.listens[k], exactness)) {
				*ret = (struct door){ .balancer = balancer,
						      .listen = &balancer->spec.listens[k] };
				return true;
			}
	}
	return false;
}

static bool find_publish(const struct walk *walk, enum exactness exactness, struct door *ret)
{
	const struct ip *to = &walk->packet.destination;

	for (size_t i = 0; i < walk->world->instance_count; i++) {
		const struct instance *instance = walk->world->instances[i];

		for (size_t k = 0; instance_is_there(instance) && k < instance->spec.publish_count;
		     k++) {
			const struct publish *publish = &instance->spec.publish[k];

			if (!fits_place(&walk->packet, publish->protocol, publish->host_port) ||
			    (exactness == AT_ANY ? publish->host_ip[0] != '\0'
						 : !is_text(to, publish->host_ip)))
				continue;
			*ret = (struct door){ .instance = instance, .publish = publish };
			return true;
		}
	}
	return false;
}

/* A port of the node that a router forwards. */
static bool find_forward(const struct walk *walk, struct door *ret)
{
	for (size_t i = 0; i < walk->world->router_count; i++) {
		const struct router *router = walk->world->routers[i];

		for (size_t k = 0; router->spec.uplink && k < router->spec.forward_count; k++) {
			const struct router_forward *forward = &router->spec.forwards[k];

			if (forward->address.family ||
			    !fits_place(&walk->packet, forward->protocol, forward->port))
				continue;
			*ret = (struct door){ .router = router };
			return true;
		}
	}
	return false;
}

/* In the order in which the kernel asks.  `local`: the destination is the node's. */
static bool find_door(const struct walk *walk, bool local, struct door *ret)
{
	if (walk->packet.protocol == TRACE_ICMP)
		return false;
	if (find_balancer(walk, AT_VIP, ret))
		return true;
	return local && (find_balancer(walk, AT_ADDRESS, ret) || find_balancer(walk, AT_ANY, ret) ||
			 find_publish(walk, AT_ADDRESS, ret) || find_publish(walk, AT_ANY, ret) ||
			 find_forward(walk, ret));
}

/* ---- on from the node */

/* What comes back out where it came from must return through the node. */
static void return_through_node(struct walk *walk, const struct network *out,
				const struct router *router)
{
	struct trace_packet before = walk->packet;
	unsigned int family = before.source.family;
	struct ip own, gateway;

	if (!family)
		return;
	if (out) {
		gateway = look_gateway(walk->world, out, family);
		if (!subnet_contains(network_subnet(out, family), &before.source))
			return;
	} else {
		own = router_own_end(router, family);
		gateway = router_node_end(router, family);
		if (!ip_equal(&own, &before.source) && walk->router != router)
			return;
	}
	walk->packet.source = gateway;
	walk_translate(walk, TRACE_NAT, "", &before,
		       "with the node's address there, so that the answer returns through it");
}

/* To a neighbour of a network whose gateway is the node. */
static void send_to_network(struct walk *walk, const struct network *out)
{
	if (!walk_ask_sender(walk, walk->network, out))
		return;
	return_through_node(walk, out, NULL);
	walk_to_segment(walk, out, WALK_BY_NODE, &walk->packet.destination);
}

static void send_to_router(struct walk *walk, const struct router *router)
{
	if (!walk_ask_sender(walk, walk->network, NULL))
		return;
	if (walk->translated)
		return_through_node(walk, NULL, router);
	walk_to_router(walk, router, NULL);
}

static bool is_usable(const struct balancer *balancer, const struct balancer_member *member,
		      unsigned int family)
{
	struct ip ip;

	if (ip_parse(family == 4 ? member->ipv4 : member->ipv6, &ip) < 0 ||
	    balancer_drain_find(&balancer->spec, member->uid))
		return false;
	for (size_t i = 0; i < balancer->status.member_count; i++) {
		const struct balancer_member_status *status = &balancer->status.members[i];

		if (strcmp(status->instance, member->instance) == 0)
			return !status->draining &&
			       (status->health == HEALTH_NONE || status->health == HEALTH_HEALTHY);
	}
	return balancer->spec.check.type == BALANCER_CHECK_NONE;
}

static void enter_balancer(struct walk *walk, const struct door *door)
{
	const struct balancer *balancer = door->balancer;
	const struct network *network = look_network(walk->world, balancer->spec.network_uid);
	const struct balancer_member *first = NULL;
	struct trace_packet before = walk->packet;
	const char *name = walk_name(walk, &balancer->meta);
	size_t usable = 0;

	for (size_t i = 0; i < balancer->spec.member_count; i++) {
		const struct balancer_member *member = &balancer->spec.members[i];

		if (!is_usable(balancer, member, before.destination.family))
			continue;
		first = first ? first : member;
		usable++;
	}
	if (!first || !network) {
		walk_hop(walk, TRACE_BALANCER, TRACE_HOP_DROPPED, name,
			 "balancer %s refuses it: none of its %zu members takes connections", name,
			 balancer->spec.member_count);
		walk_end(walk, TRACE_DROPPED);
		if (walk_is_ours(walk, &balancer->meta))
			walk_advise(walk, "balancer show %s", name);
		return;
	}
	(void) ip_parse(before.destination.family == 4 ? first->ipv4 : first->ipv6,
			&walk->packet.destination);
	walk->packet.port = door->listen->target_port;
	walk->translated = true;
	walk_translate(walk, TRACE_BALANCER, name, &before,
		       "balancer %s gives it to one of %zu members (%s); here: %s", name, usable,
		       balancer_algorithm_names[balancer->spec.algorithm],
		       walk_is_ours(walk, &balancer->meta) ? first->instance : "another project's");
	send_to_network(walk, network);
}

/* False: it is published in the other family only, as if it were not there. */
static bool enter_publish(struct walk *walk, const struct door *door)
{
	const struct port *port = look_outlet(walk->world, door->instance, true);
	const struct network *network = port ? look_network(walk->world, port->network_uid) : NULL;
	struct trace_packet before = walk->packet;
	struct ip to = port ? port_address(port, before.destination.family) : (struct ip){};

	if (!to.family || !network)
		return false;
	walk->packet.destination = to;
	walk->packet.port = door->publish->port;
	walk->translated = true;
	walk_translate(walk, TRACE_FORWARD, walk_name(walk, &door->instance->meta), &before,
		       "port %u/%s of the node is published: port %u of instance %s", before.port,
		       protocol_name(door->publish->protocol), door->publish->port,
		       walk_name(walk, &door->instance->meta));
	send_to_network(walk, network);
	return true;
}

static bool enter_forward(struct walk *walk, const struct door *door)
{
	struct trace_packet before = walk->packet;
	struct ip to = router_own_end(door->router, before.destination.family);

	if (!to.family)
		return false;
	walk->packet.destination = to;
	walk->translated = true;
	walk_translate(walk, TRACE_FORWARD, walk_name(walk, &door->router->meta), &before,
		       "port %u of the node is a forward of router %s", before.port,
		       walk_name(walk, &door->router->meta));
	send_to_router(walk, door->router);
	return true;
}

static bool enter(struct walk *walk, const struct door *door)
{
	if (door->balancer) {
		enter_balancer(walk, door);
		return true;
	}
	return door->instance ? enter_publish(walk, door) : enter_forward(walk, door);
}

/* ---- the node itself */

static void refuse_vip(struct walk *walk, const struct balancer *balancer)
{
	const char *name = walk_name(walk, &balancer->meta);

	if (walk->packet.protocol == TRACE_ICMP &&
	    walk->network == look_network(walk->world, balancer->spec.network_uid)) {
		walk_hop(walk, TRACE_BALANCER, TRACE_PASSES, name,
			 "the node answers for the address of balancer %s", name);
		walk_end(walk, TRACE_DELIVERED);
		return;
	}
	walk_hop(walk, TRACE_BALANCER, TRACE_HOP_DROPPED, name,
		 "balancer %s does not listen there for who comes from here: it is refused", name);
	walk_end(walk, TRACE_DROPPED);
	if (walk_is_ours(walk, &balancer->meta))
		walk_advise(walk, "balancer show %s", name);
}

static void serve(struct walk *walk)
{
	const struct trace_packet *packet = &walk->packet;
	bool names = packet->port == 53 && packet->protocol != TRACE_ICMP && walk->network;
	bool leases = packet->port == 67 && packet->protocol == TRACE_UDP && walk->network &&
		      walk->network->spec.dhcp;
	const char *text = "the node's own: what it serves there, and its own firewall, say more";

	if (names)
		text = "the name server of the network";
	else if (leases)
		text = "the DHCP server of the network";
	else if (packet->protocol == TRACE_ICMP)
		text = "the node answers";
	walk_hop(walk, TRACE_NODE, TRACE_PASSES, "", "%s", text);
	walk_end(walk, TRACE_DELIVERED);
}

/* A gateway serves its own network only. */
static void enter_node(struct walk *walk)
{
	const struct ip *to = &walk->packet.destination;
	struct ip own = walk->network ? look_gateway(walk->world, walk->network, to->family)
				      : router_node_end(walk->router, to->family);

	for (size_t i = 0; i < walk->world->balancer_count; i++)
		if (is_vip_of(walk->world->balancers[i], to)) {
			refuse_vip(walk, walk->world->balancers[i]);
			return;
		}
	for (size_t i = 0; i < walk->world->network_count + walk->world->router_count; i++) {
		size_t k = i - walk->world->network_count;
		struct ip other =
			i < walk->world->network_count
				? look_gateway(walk->world, walk->world->networks[i], to->family)
				: router_node_end(walk->world->routers[k], to->family);
		bool node = i >= walk->world->network_count ||
			    network_has_node(walk->world->networks[i]);

		if (!node || !ip_equal(to, &other) || ip_equal(to, &own))
			continue;
		walk_hop(walk, TRACE_WALL, TRACE_HOP_DROPPED, "",
			 "the node serves another network there: a gateway is for its own network");
		walk_end(walk, TRACE_DROPPED);
		return;
	}
	serve(walk);
}

/* ---- through the node */

static const struct router *find_floating(const struct walk *walk, const struct ip *ip)
{
	for (size_t i = 0; i < walk->world->router_count; i++) {
		const struct router *router = walk->world->routers[i];

		for (size_t k = 0; router->spec.uplink && k < router->spec.floating_count; k++)
			if (ip_equal(&router->spec.floating[k].address, ip))
				return router;
	}
	return NULL;
}

/* A router without NAT that joins a network with this address. */
static bool leads_to(const struct walk *walk, const struct router *router, const struct ip *ip)
{
	for (size_t i = 0;
	     router->spec.uplink && !router->spec.nat && i < router->spec.network_count; i++) {
		const struct network *network =
			look_network(walk->world, router->spec.networks[i].uid);

		if (network && joined_address(&router->spec.networks[i], ip->family).family &&
		    subnet_contains(network_subnet(network, ip->family), ip))
			return true;
	}
	return false;
}

/* Nobody sends with an address that the node would not answer there. */
static bool is_source_known(const struct walk *walk)
{
	const struct ip *source = &walk->packet.source;
	struct ip own = walk->router ? router_own_end(walk->router, source->family) : (struct ip){};

	return walk->network || ip_equal(&own, source) ||
	       find_floating(walk, source) == walk->router || leads_to(walk, walk->router, source);
}

static void hit_wall(struct walk *walk, const struct network *out)
{
	const char *name = out ? walk_name(walk, &out->meta) : "a router's";
	const char *from =
		walk_name(walk, walk->network ? &walk->network->meta : &walk->router->meta);

	if (!walk_ask_sender(walk, walk->network, out))
		return;
	walk_hop(walk, TRACE_WALL, TRACE_HOP_DROPPED, "",
		 "networks do not reach each other: what comes from %s to %s is refused", from,
		 name);
	walk_end(walk, TRACE_DROPPED);
	if (out && walk_is_ours(walk, &out->meta))
		walk_advise(walk, "network attach %s %s", name, walk->from->meta.name);
}

/* A published port would catch it, were the address the node's: which ones it has is not known. */
static void put_remark(struct walk *walk, struct strbuf *text)
{
	struct door door;

	if (find_door(walk, true, &door))
		strbuf_printf(text,
			      "; were it an address of the node itself, its port %u is one that "
			      "leads to an instance",
			      walk->packet.port);
}

static void leave_node(struct walk *walk)
{
	const struct ip *source = &walk->packet.source;
	bool floating = !walk->network && find_floating(walk, source) == walk->router;
	bool nat = walk->network ? walk->network->spec.nat : walk->router->spec.nat;
	struct trace_packet before = walk->packet;
	AUTO(strbuf_done) struct strbuf text = {};
	char to[IP_TEXT_SIZE];

	if (!walk_ask_sender(walk, walk->network, NULL))
		return;
	if (nat && !floating) {
		walk->packet.source = (struct ip){};
		walk_translate(walk, TRACE_NAT, "", &before,
			       "with the address of the node's own uplink");
	}
	ip_format(&walk->packet.destination, to);
	put_remark(walk, &text);
	if (!walk->meant) {
		walk_hop(walk, TRACE_UPLINK, TRACE_PASSES, "",
			 "leaves the node by its own routes%s", strbuf_str(&text));
		walk_end(walk, TRACE_LEAVES);
		return;
	}
	walk_hop(walk, TRACE_UPLINK, TRACE_HOP_DROPPED, "",
		 "nothing leads from here to the network on which %s is instance %s: it leaves the "
		 "node like what is for others",
		 to, walk->meant->meta.name);
	walk_end(walk, TRACE_UNREACHABLE);
	for (size_t i = 0; i < walk->meant->spec.port_count; i++) {
		struct ip own =
			port_address(&walk->meant->spec.ports[i], walk->packet.destination.family);

		if (ip_equal(&own, &walk->packet.destination))
			walk_advise(walk, "network attach %s %s",
				    walk->meant->spec.ports[i].network, walk->from->meta.name);
	}
}

static void pass_through(struct walk *walk)
{
	const struct ip *to = &walk->packet.destination;
	const struct router *router = find_floating(walk, to);

	if (router) {
		send_to_router(walk, router);
		return;
	}
	for (size_t i = 0; i < walk->world->network_count; i++) {
		const struct network *network = walk->world->networks[i];

		if (!network_has_node(network) ||
		    !look_gateway(walk->world, network, to->family).family ||
		    !subnet_contains(network_subnet(network, to->family), to))
			continue;
		hit_wall(walk, network);
		return;
	}
	for (size_t i = 0; i < walk->world->router_count; i++) {
		struct ip end = router_own_end(walk->world->routers[i], to->family);

		if (leads_to(walk, walk->world->routers[i], to) || ip_equal(&end, to)) {
			hit_wall(walk, NULL);
			return;
		}
	}
	leave_node(walk);
}

void walk_node(struct walk *walk)
{
	bool local = is_local(walk, &walk->packet.destination);
	struct door door = {};

	walk->translated = false;
	if (!is_source_known(walk)) {
		walk_hop(walk, TRACE_ROUTER, TRACE_HOP_DROPPED,
			 walk_name(walk, &walk->router->meta),
			 "the node has no route back to where it came from by this router");
		walk_end(walk, TRACE_DROPPED);
		return;
	}
	if (find_door(walk, local, &door) && enter(walk, &door))
		return;
	if (local)
		enter_node(walk);
	else
		pass_through(walk);
}
