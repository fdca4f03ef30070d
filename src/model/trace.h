#pragma once
/*
 * model/trace.h - the way of one packet from an instance, hop by hop, computed from resources.
 *
 * What docs/design/0004 and 0008 say happens to the first packet of a connection, in words for
 * people: which port sends it, what is asked on its way (guard, security groups, walls), where it
 * is translated, and where it ends; and if it is dropped, by what, and how to allow it.  A pure
 * function of what it is given: control/ hands over what its mirror has, tests what they like.
 * Answers are not followed, but for one thing: whether the receiver has a route back.
 *
 *	trace.c		the port that sends, and what a trace is made of
 *	trace_look.c	who has which address
 *	trace_group.c	security groups
 *	trace_segment.c	the network that a frame is on
 *	trace_node.c	the node: published ports, balancers, walls, the way outside
 *	trace_router.c	routers
 *
 * Names of another project's resources are not told.  No state, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "model/balancer.h"
#include "model/group.h"
#include "model/instance.h"
#include "model/network.h"
#include "model/router.h"
#include "model/trace_request.h"

struct error;

enum { TRACE_PREFIX_SIZE = 9 };

enum trace_verdict {
	TRACE_DELIVERED,
	TRACE_DROPPED,
	TRACE_LEAVES,      /* the node, or what is known of it */
	TRACE_UNREACHABLE, /* nobody drops it, but nobody gets it either, or can answer */
};

enum trace_hop_kind {
	TRACE_INTERFACE,
	TRACE_BRIDGE,
	TRACE_GUARD,
	TRACE_GROUP,
	TRACE_ROUTER,
	TRACE_NAT,
	TRACE_FORWARD, /* a published port, or a router's forward */
	TRACE_BALANCER,
	TRACE_WALL,
	TRACE_TUNNEL,
	TRACE_UPLINK,
	TRACE_NODE, /* the node itself is meant */
	TRACE_INSTANCE,
};

enum trace_hop_verdict { TRACE_PASSES, TRACE_HOP_DROPPED, TRACE_TRANSLATED };

struct trace_packet {
	struct ip source, destination; /* source of family 0: an address of the node's uplink */
	enum trace_protocol protocol;
	uint16_t port; /* of the destination; not for icmp */
};

struct trace_hop {
	enum trace_hop_kind kind;
	enum trace_hop_verdict verdict;
	char *name; /* of what it is: an interface, a network, a router; may be "" */
	char *text; /* one line */

	/* Of a security group. */
	char *group;
	bool ingress;
	size_t rule; /* its number in the group; 0: none, the group lets everything out or nothing
			in */
	char group_uid[UID_SIZE];
	size_t rule_there; /* as the node numbers it: each direction from 1 on */

	struct trace_packet before, after; /* of what is TRACE_TRANSLATED */
};

struct trace {
	enum trace_verdict verdict;
	struct trace_hop *hops;
	size_t hop_count;
	char *advice; /* a command that opens the way where it ends, or NULL */

	/* What is sent, for who wants to try it; source.family is 0 when nothing is. */
	char port_uid[UID_SIZE];
	struct trace_packet sent;
	char prefix[TRACE_PREFIX_SIZE]; /* of the node's tables; "" = not known */
};

/* Of all projects; what is being deleted may be among them. */
struct trace_world {
	const char *project; /* who asks */
	const struct instance **instances;
	const struct network **networks;
	const struct security_group **groups;
	const struct router **routers;
	const struct balancer **balancers;
	size_t instance_count, network_count, group_count, router_count, balancer_count;
};

/* -ENOENT, -EINVAL: what is asked for does not exist, or cannot be traced. */
int trace_walk(const struct trace_world *world, const struct instance *from,
	       const struct trace_request *request, struct trace *ret, struct error *err);

json_t *trace_encode(const struct trace *trace);

void trace_done(struct trace *trace);
static inline void trace_done_autop(struct trace *trace)
{
	trace_done(trace);
}
