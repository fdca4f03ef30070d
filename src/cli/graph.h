#pragma once
/*
 * cli/graph.h - a drawing of a project's networks: who is on which, and what leads outside.
 *
 * Used by cli/network_graph, which asks the server; pure functions of the JSON documents that it
 * answered.  A network is a line; a thing (an instance, a router, the node as the gateway of a
 * network) hangs on one or several.  Network 0 is the outside.  No state, thread-safe.
 */
#include <jansson.h>
#include <stddef.h>

#include "base/cleanup.h"

struct strbuf;

struct graph_network {
	char *name;
	char *kind;    /* "nat", "routed", "isolated", "macvlan on eth1" */
	char *subnets; /* "10.90.0.0/24, fd00::/64" */
	char *tunnel;  /* "VXLAN 4711 to 192.0.2.9"; NULL = none */
};

enum graph_type { GRAPH_NODE, GRAPH_ROUTER, GRAPH_INSTANCE };

struct graph_link {
	size_t network;
	char *label; /* "eth0  10.90.0.2" */
};

struct graph_thing {
	enum graph_type type;
	char *name;
	char *detail; /* published ports, floating addresses, its state when it does not run; or ""
		       */
	struct graph_link *links; /* by network, in their order */
	size_t link_count;
};

struct graph {
	struct graph_network *networks;
	struct graph_thing *things;
	size_t network_count, thing_count;
};

/*
 * Lists of documents; `routers` may be NULL.  `only` (may be NULL) names networks: they alone, and
 * the routers that lead out of them, are drawn.
 */
struct graph *graph_new(const json_t *networks, const json_t *instances, const json_t *routers,
			char *const *only);
void graph_free(struct graph *graph);
DEFINE_AUTO(struct graph *, graph_free)

/* A tree for the terminal: outside, what leads there, and who is behind it. */
void graph_put_text(const struct graph *graph, struct strbuf *out);

/* A picture: networks are lines, things hang on them. */
void graph_put_svg(const struct graph *graph, struct strbuf *out);
