#pragma once
/*
 * net/router.h - what joins networks, and joins them to the outside: a network namespace.
 *
 *	    outside ---- uplink
 *	                   |   PREFIXrUID  100.64.0.0/31          the node
 *	  = = = = = = = = =|= = = = = = = = = = = = = = = = = = = = = = = =
 *	                uplink 100.64.0.1/31                      PREFIX-r-UID
 *	     nNETWORK 10.1.0.1/24     nNETWORK 10.2.0.1/24        table inet PREFIX
 *	  = = = = = =|= = = = = = = = = = =|= = = = = = = = = = = = = = = =
 *	         PREFIXnHASH            PREFIXnHASH               ports of the bridges
 *
 * The namespace is held by a mount on RUN/routers/UID/net, so it outlives whoever made it; a new
 * agent finds it there, and connections through it notice nothing.  The rules in there are a text
 * that is written anew, in one transaction, when they are not what they should be (router_text.c).
 * Connections that were translated stay so.
 *
 * With an uplink the node treats the router like a network whose gateway it is: its end of the
 * veth stands in the sets that bridges stand in (net/rules_internal.h).  With `nat` everything
 * leaves with the router's transit address, which the node translates once more; without it the
 * node routes the joined subnets to the router.  Floating addresses are routed to it in any case,
 * leave untouched, and where one is of the subnet of a link of the node, it answers ARP and
 * neighbour discovery for it there.
 *
 * Used by the agent; uses net/node.h.  Threads: as there; what happens inside is done by the
 *calling thread, which comes back, or the process aborts.  Crash: ensure again finds and repairs.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;
struct net;

enum { ROUTER_LEGS_MAX = 32, ROUTER_ITEMS_MAX = 256 };

/* A network that it joins, an isolated one. */
struct router_leg {
	const char *network_uid;
	const char *subnet4, *subnet6; /* of the network; NULL or "" = none */
	const char *ipv4, *ipv6;       /* the router's, without a length */
	uint32_t mtu;
};

struct router_static {
	const char *to;  /* "10.2.0.0/24" */
	const char *via; /* an address on a leg */
};

struct router_public {
	const char *address;
	const char *target; /* one-to-one; NULL or "" = for doors only */
};

struct router_door {
	const char *address; /* a public one; NULL or "" = all of the node's */
	const char *protocol;
	uint16_t port;
	const char *target4, *target6; /* NULL or "" = none */
	uint16_t target_port;
};

struct router_setup {
	const char *uid;
	const struct router_leg *legs;
	const struct router_static *statics;
	const struct router_public *publics;
	const struct router_door *doors;
	size_t leg_count, static_count, public_count, door_count;
	bool uplink, nat;
	bool advertise;      /* the routes to it have the mark of net/advertise.h */
	const char *transit; /* with an uplink: the node's end, an even address of 100.64.0.0/16 */
};

/*
 * Makes the router what `setup` says, whatever of it is there already.  The bridges of its networks
 * are there.  -EADDRINUSE: an address or a port of the node is taken.
 */
int router_ensure(struct net *net, const struct router_setup *setup, struct error *err);

/* Takes everything of it away; missing parts are fine. */
int router_remove(struct net *net, const char *uid, struct error *err);

/*
 * Two fds that become readable when somebody changes the rules, or links, addresses and routes, in
 * a router's namespace; we ourselves, too.  They are the caller's to drain and close.
 */
int router_watch(struct net *net, const char *uid, int *ret_rules_fd, int *ret_links_fd,
		 struct error *err);
