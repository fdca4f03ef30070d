#pragma once
/*
 * model/trace_internal.h - what the files of model/trace share: a walk in progress.
 *
 * A walk goes from place to place; each place says something about the packet, and where it goes
 * next, or ends the walk.
 */
#include "model/trace.h"

enum walk_place { WALK_END, WALK_SEGMENT, WALK_NODE, WALK_ROUTER };
enum walk_sender { WALK_BY_PORT, WALK_BY_ROUTER, WALK_BY_NODE };

/* More places than a packet can come to before its hop limit ends it, but for circles. */
enum { WALK_PLACES_MAX = 64 };

struct walk {
	const struct trace_world *world;
	const struct instance *from;
	const struct instance *meant; /* whose address was asked for; NULL: nobody's we know */
	struct trace_packet packet;
	struct trace *trace;

	enum walk_place place;
	/*
	 * SEGMENT: which.  NODE and ROUTER: the one it came from; NULL: by the link between node
	 * and router.
	 */
	const struct network *network;
	const struct router *router; /* ROUTER: which.  NODE: whose link it came by */
	enum walk_sender sender;     /* SEGMENT: who put it there */
	struct ip next;              /* SEGMENT: and who is to get it */
	bool translated;             /* the node has changed the destination of its connection */
};

/* ---- trace.c */

/* A new hop; the caller may complete it. */
struct trace_hop *walk_hop(struct walk *walk, enum trace_hop_kind kind,
			   enum trace_hop_verdict verdict, const char *name, const char *format,
			   ...) __attribute__((format(printf, 5, 6)));

/* One that changes the packet into what it is when this is called. */
void walk_translate(struct walk *walk, enum trace_hop_kind kind, const char *name,
		    const struct trace_packet *before, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
void walk_end(struct walk *walk, enum trace_verdict verdict);

/* "brume ..."; the option for the project is appended when it is not the default one. */
void walk_advise(struct walk *walk, const char *format, ...) __attribute__((format(printf, 2, 3)));

bool walk_is_ours(const struct walk *walk, const struct meta *meta);

/* The name of what is ours, else "another project's"; borrowed. */
const char *walk_name(const struct walk *walk, const struct meta *meta);

/* "tcp:80", "icmp" */
void packet_format(const struct trace_packet *packet, char ret[SECURITY_TEXT_SIZE]);

/* ---- trace_look.c */

const struct network *look_network(const struct trace_world *world, const char *uid);
const struct instance *look_instance(const struct trace_world *world, const char *project,
				     const char *name);
const struct security_group *look_group(const struct trace_world *world, const char *uid);

const struct subnet *network_subnet(const struct network *network, unsigned int family);

/* Of a port, or a router on a network; family 0: it has none. */
struct ip port_address(const struct port *port, unsigned int family);
struct ip joined_address(const struct router_network *joined, unsigned int family);

/* The node is there: it has the gateway's address, and routes. */
bool network_has_node(const struct network *network);

enum owner_kind { OWNER_NOBODY, OWNER_NODE, OWNER_ROUTER, OWNER_INSTANCE };
struct owner {
	enum owner_kind kind;
	const struct router *router;
	const struct instance *instance;
	const struct port *port;
};
struct owner look_owner(const struct trace_world *world, const struct network *network,
			const struct ip *ip);

/* Who leads out of a network: family 0 when nobody does. */
struct ip look_gateway(const struct trace_world *world, const struct network *network,
		       unsigned int family);

/* The port that gives the default route; `published`: the one that published ports lead to. */
const struct port *look_outlet(const struct trace_world *world, const struct instance *instance,
			       bool published);

/* By which port an instance sends there; *ret_via has family 0 when it is a neighbour.  NULL: none.
 */
const struct port *look_route(const struct trace_world *world, const struct instance *instance,
			      const struct ip *to, struct ip *ret_via);

bool instance_is_there(const struct instance *instance); /* its interfaces are */

/* Ends of the link between node and router in that family. */
struct ip router_node_end(const struct router *router, unsigned int family);
struct ip router_own_end(const struct router *router, unsigned int family);

/* ---- trace_group.c */

/*
 * Asks the groups of the port that the packet comes from (in `in`), or goes to (in `out`).  NULL:
 * the link of a router, or outside.  False: it was dropped, and the walk has ended.
 */
bool walk_ask_sender(struct walk *walk, const struct network *in, const struct network *out);
bool walk_ask_receiver(struct walk *walk, const struct network *in, const struct network *out);

/* ---- trace_segment.c, trace_node.c, trace_router.c */

void walk_guard(struct walk *walk, const struct port *port);
void walk_segment(struct walk *walk);
void walk_node(struct walk *walk);
void walk_router(struct walk *walk);
void walk_deliver(struct walk *walk, const struct instance *instance, const struct port *port);

/*
 * The router by whose address `via` the receiver on this segment answers, if the answer gets lost
 * there or behind it; else NULL.
 */
const struct router *walk_lost_answer(const struct walk *walk, const struct ip *via);

/* To a neighbour of that network, or to the node's end of the router's link. */
void walk_to_segment(struct walk *walk, const struct network *network, enum walk_sender sender,
		     const struct ip *next);
void walk_to_node(struct walk *walk, const struct network *network, const struct router *router);
void walk_to_router(struct walk *walk, const struct router *router, const struct network *network);
