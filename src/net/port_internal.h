#pragma once
/*
 * net/port_internal.h - what both kinds of ports, a container's veth and a machine's tap, share.
 *
 * Private to net/.
 */
#include <stdbool.h>

#include "kern/link.h"
#include "kern/route.h"
#include "net/network_internal.h"
#include "net/port.h"

/* A checked port_spec. */
struct port_plan {
	struct network_plan network;
	struct route_ip ipv4, ipv6;         /* with the subnet's prefix length; `family` 0 = none */
	struct route_ip gateway4, gateway6; /* likewise: the network's, or the router's */
	uint8_t mac[LINK_MAC_SIZE];
	const char *interface; /* inside; borrowed */
	bool leads_out;
};

int port_plan(const struct port_spec *spec, struct port_plan *ret, struct error *err);

/*
 * Sets up what the port may send and who reaches it; to be done before the interface is up.  Takes
 * the lock.
 */
int port_guard(struct net *net, const struct port_spec *spec, const struct port_plan *plan,
	       struct error *err);

/* Publishes its names, and its lease in a network that serves DHCP. */
int port_publish_name(struct net *net, const struct port_spec *spec, const struct port_plan *plan,
		      struct error *err);

/* Whether a port has to send frames back to where they came from. */
bool port_needs_hairpin(const struct net *net, const struct port_plan *plan);

/*
 * The bridge of its network: ours, or somebody else's (driver physical).  One of Open vSwitch is
 * none of the kernel's, then ret->index is 0, and ret->mtu if that is not known.
 */
int port_find_bridge(struct net *net, const struct port_spec *spec, const struct port_plan *plan,
		     struct link *ret, struct error *err);

/*
 * What the end outside must have: somebody else's bridge takes the smallest of its ports' for its
 * own, and nothing of it is to change.
 */
uint32_t port_outside_mtu(const struct port_plan *plan, const struct link *bridge);

/* Into an instance's namespace, and back: between the two the thread does nothing else. */
int port_enter(int netns_fd, const char *what, struct error *err);
void port_leave(struct net *net);

/* Has the interface limited and counted, as the spec has it: before it is up. */
int port_measure(struct net *net, const struct port_spec *spec, const struct port_plan *plan,
		 const struct link *bridge, const struct link *port, struct error *err);

/* Puts the interface on the bridge, if it is not there. */
int port_join(struct net *net, const struct link *interface, const struct link *bridge,
	      struct error *err);
