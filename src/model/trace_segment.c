#include <string.h>

#include "base/strbuf.h"
#include "model/trace_internal.h"

/* The network that a frame is on: who is asked for the next address, and what is asked on the way.
 */

void walk_to_segment(struct walk *walk, const struct network *network, enum walk_sender sender,
		     const struct ip *next)
{
	walk->place = WALK_SEGMENT;
	walk->network = network;
	walk->sender = sender;
	walk->next = *next;
}

static bool is_guarded(const struct walk *walk, const struct port *port)
{
	const struct network *network = look_network(walk->world, port->network_uid);

	return network && (network->spec.driver == NETWORK_DRIVER_BRIDGE ||
			   network->spec.driver == NETWORK_DRIVER_PHYSICAL);
}

/* What the port may send at all. */
void walk_guard(struct walk *walk, const struct port *port)
{
	struct ip own = port_address(port, walk->packet.source.family);
	char source[IP_TEXT_SIZE];

	if (!is_guarded(walk, port))
		return;
	if (port->spoofing) {
		walk_hop(walk, TRACE_GUARD, TRACE_PASSES, port->interface,
			 "it may send with any address (spoofing)");
		return;
	}
	if (ip_equal(&own, &walk->packet.source)) {
		walk_hop(walk, TRACE_GUARD, TRACE_PASSES, port->interface,
			 "it sends with its own address and MAC");
		return;
	}
	ip_format(&walk->packet.source, source);
	walk_hop(walk, TRACE_GUARD, TRACE_HOP_DROPPED, port->interface,
		 "%s is not an address of %s, by which the routes of the instance lead there",
		 source, port->interface);
	walk_end(walk, TRACE_DROPPED);
}

/* Answers need a way, too: by the port that has the address they come from. */
static void check_way_back(struct walk *walk, const struct instance *instance,
			   const struct port *port)
{
	const struct ip *source = &walk->packet.source;
	const char *name = walk_name(walk, &instance->meta);
	char text[IP_TEXT_SIZE];
	struct ip via;
	const struct port *back =
		source->family ? look_route(walk->world, instance, source, &via) : port;
	const struct router *router =
		back == port && source->family ? walk_lost_answer(walk, &via) : NULL;

	if ((back == port && !router) ||
	    (back && back != port && (back->spoofing || !is_guarded(walk, back))))
		return;
	ip_format(source, text);
	if (router)
		walk_hop(walk, TRACE_INSTANCE, TRACE_HOP_DROPPED, name,
			 "it answers by router %s, which does not lead to %s: no answer comes back",
			 walk_name(walk, &router->meta), text);
	else if (!back)
		walk_hop(walk, TRACE_INSTANCE, TRACE_HOP_DROPPED, name,
			 "it has no route to %s: no answer comes back", text);
	else
		walk_hop(walk, TRACE_INSTANCE, TRACE_HOP_DROPPED, name,
			 "its route to %s leads by %s, which may not send with this address: no "
			 "answer comes back",
			 text, back->interface);
	walk_end(walk, TRACE_UNREACHABLE);
}

void walk_deliver(struct walk *walk, const struct instance *instance, const struct port *port)
{
	const char *name = walk_name(walk, &instance->meta);
	const struct trace_packet *packet = &walk->packet;
	AUTO(strbuf_done) struct strbuf text = {};
	char address[IP_TEXT_SIZE];

	ip_format(&packet->destination, address);
	strbuf_printf(&text, "%s is %s of %s", address, port->interface, name);
	if (port->limits.ingress_bps)
		strbuf_printf(&text, ", which receives %.6g Mbit/s at most",
			      (double) port->limits.ingress_bps / 1e6);
	if (instance->status.state == INSTANCE_PAUSED)
		strbuf_puts(&text, "; it is paused, so its programs do not answer");
	else if (packet->protocol != TRACE_ICMP)
		strbuf_printf(&text, "; what listens there on port %u is its own affair",
			      packet->port);
	walk_hop(walk, TRACE_INSTANCE, TRACE_PASSES, name, "%s", strbuf_str(&text));
	walk_end(walk, TRACE_DELIVERED);
	check_way_back(walk, instance, port);
}

/* Nobody here has the address. */
static void reach_nobody(struct walk *walk)
{
	const struct network *network = walk->network;
	const struct network_tunnel *tunnel = &network->spec.tunnel;
	const char *name = walk_name(walk, &network->meta);
	AUTO(strbuf_done) struct strbuf peers = {};
	char next[IP_TEXT_SIZE];

	ip_format(&walk->next, next);
	for (char **peer = tunnel->peers; tunnel->vni && peer && *peer; peer++)
		strbuf_printf(&peers, "%s%s", peers.size ? ", " : "", *peer);
	if (!peers.size) {
		walk_hop(walk, TRACE_BRIDGE, TRACE_HOP_DROPPED, name,
			 "nobody on network %s has %s: it is asked for in vain", name, next);
		walk_end(walk, TRACE_UNREACHABLE);
		return;
	}
	walk_hop(walk, TRACE_BRIDGE, TRACE_PASSES, name, "nobody on this node has %s", next);
	if (!walk_ask_sender(walk, network, network))
		return;
	walk_hop(walk, TRACE_TUNNEL, TRACE_PASSES, name, "by %s %u to its peers %s",
		 tunnel->gre ? "GRE, key" : "VXLAN", tunnel->vni, strbuf_str(&peers));
	walk_end(walk, TRACE_LEAVES);
}

/* True when somebody is there to get the frame. */
static bool is_awake(struct walk *walk, const struct instance *instance)
{
	const char *name = walk_name(walk, &instance->meta);

	if (instance_is_there(instance))
		return true;
	walk_hop(walk, TRACE_INSTANCE, TRACE_HOP_DROPPED, name, "%s is %s: nobody is there", name,
		 instance_state_name(instance->status.state));
	walk_end(walk, TRACE_UNREACHABLE);
	if (walk_is_ours(walk, &instance->meta) && instance->status.state == INSTANCE_STOPPED)
		walk_advise(walk, "start %s", name);
	return false;
}

static void reach_instance(struct walk *walk, const struct owner *owner)
{
	const struct network *network = walk->network;
	const char *name = walk_name(walk, &owner->instance->meta);

	if (!is_awake(walk, owner->instance))
		return;
	if (walk->sender != WALK_BY_NODE && !walk_ask_sender(walk, network, network))
		return;
	if (!ip_equal(&walk->next, &walk->packet.destination)) {
		/* It is meant to route. */
		walk_hop(walk, TRACE_GUARD,
			 owner->port->spoofing ? TRACE_PASSES : TRACE_HOP_DROPPED, name,
			 owner->port->spoofing
				 ? "%s gets it to route it further, how is its own affair"
				 : "%s is not given what is for other addresses than its own",
			 name);
		walk_end(walk, owner->port->spoofing ? TRACE_LEAVES : TRACE_DROPPED);
		return;
	}
	if (walk->sender == WALK_BY_NODE && walk->translated)
		walk_hop(walk, TRACE_GROUP, TRACE_PASSES, "",
			 "what is published is open: security groups of %s are not asked", name);
	else if (!walk_ask_receiver(walk, walk->sender == WALK_BY_NODE ? NULL : network, network))
		return;
	walk_deliver(walk, owner->instance, owner->port);
}

/* ---- networks that are somebody else's */

static void leave_by_uplink(struct walk *walk, const char *why)
{
	const struct network *network = walk->network;

	walk_hop(walk, TRACE_UPLINK, TRACE_PASSES, network->spec.uplink, "leaves by %s: %s",
		 network->spec.uplink, why);
	walk_end(walk, TRACE_LEAVES);
}

static void walk_macvlan(struct walk *walk, const struct owner *owner)
{
	switch (walk->network->spec.mode) {
	case MACVLAN_BRIDGED:
		walk_deliver(walk, owner->instance, owner->port);
		return;
	case MACVLAN_VEPA:
		leave_by_uplink(walk, "mode vepa, the switch there sends it back or does not");
		return;
	case MACVLAN_PRIVATE:
	case MACVLAN_PASSTHRU:
		break;
	}
	walk_hop(walk, TRACE_BRIDGE, TRACE_HOP_DROPPED, walk_name(walk, &walk->network->meta),
		 "macvlans in mode %s do not hear each other: --mode bridge, when the network is "
		 "created, is what lets them",
		 macvlan_mode_names[walk->network->spec.mode]);
	walk_end(walk, TRACE_DROPPED);
}

/* Of drivers macvlan, physical and ovs: what is not of this node is not known. */
static void walk_lan(struct walk *walk)
{
	const struct network *network = walk->network;
	struct owner owner = look_owner(walk->world, network, &walk->next);

	if (owner.kind != OWNER_INSTANCE && network->spec.uplink) {
		leave_by_uplink(walk, "what is there is not brume's");
		return;
	}
	if (owner.kind != OWNER_INSTANCE) {
		reach_nobody(walk);
		return;
	}
	if (!is_awake(walk, owner.instance))
		return;
	if (network->spec.driver == NETWORK_DRIVER_MACVLAN) {
		walk_macvlan(walk, &owner);
		return;
	}
	if (network->spec.driver == NETWORK_DRIVER_OVS)
		walk_hop(walk, TRACE_BRIDGE, TRACE_PASSES, walk_name(walk, &network->meta),
			 "over Open vSwitch, if its flows say nothing else");
	else
		walk_hop(walk, TRACE_BRIDGE, TRACE_PASSES, walk_name(walk, &network->meta),
			 "over bridge %s, which is not brume's", network->spec.uplink);
	walk_deliver(walk, owner.instance, owner.port);
}

/* ---- bridges of ours */

static void say_bridge(struct walk *walk, const struct owner *owner)
{
	const struct network *network = walk->network;
	const char *name = walk_name(walk, &network->meta);
	char next[IP_TEXT_SIZE];

	ip_format(&walk->next, next);
	if (owner->kind == OWNER_NODE)
		walk_hop(walk, TRACE_BRIDGE, TRACE_PASSES, name,
			 "over the bridge of network %s to the node, which has %s", name, next);
	else
		walk_hop(walk, TRACE_BRIDGE, TRACE_PASSES, name,
			 "over the bridge of network %s to %s %s, which has %s", name,
			 owner->kind == OWNER_ROUTER ? "router" : "instance",
			 walk_name(walk, owner->kind == OWNER_ROUTER ? &owner->router->meta
								     : &owner->instance->meta),
			 next);
}

void walk_segment(struct walk *walk)
{
	const struct network *network = walk->network;
	struct owner owner;

	if (network->status.state == NETWORK_FAILED) {
		walk_hop(walk, TRACE_BRIDGE, TRACE_HOP_DROPPED, walk_name(walk, &network->meta),
			 "the network has failed: %s",
			 network->status.error && walk_is_ours(walk, &network->meta)
				 ? network->status.error
				 : "the node cannot make it");
		walk_end(walk, TRACE_DROPPED);
		return;
	}
	if (network->spec.driver != NETWORK_DRIVER_BRIDGE) {
		walk_lan(walk);
		return;
	}
	owner = look_owner(walk->world, network, &walk->next);
	if (owner.kind == OWNER_NOBODY) {
		reach_nobody(walk);
		return;
	}
	say_bridge(walk, &owner);
	if (owner.kind == OWNER_NODE)
		walk_to_node(walk, network, NULL);
	else if (owner.kind == OWNER_INSTANCE)
		reach_instance(walk, &owner);
	else if (walk_ask_sender(walk, network, network) &&
		 walk_ask_receiver(walk, network, network))
		walk_to_router(walk, owner.router, network);
}
