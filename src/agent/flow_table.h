#pragma once
/*
 * agent/flow_table.h - what a flow means: the networks that it belongs to, the instances that have
 * its addresses; and the line of JSON that says so.
 *
 *	table = flow_table_new();
 *	flow_table_add_network(table, ...); flow_table_add_router(...); flow_table_add_port(...);
 *	flow_table_follow(table, before, now_ms);
 *	flow_table_match(table, router_uid, flow, fn, data);  ->  flow_table_line(...)
 *
 * A flow may have ended long after its instance, and the address be another one's by then: who had
 * it when the flow began is meant.  So a table takes over from the one before it who has gone.
 *
 * What a network's log tells is for the project of that network: names are those of the same
 * project, and where an address was translated from or into one of another project's, only the
 * other one of the two is told, which this network has seen.
 *
 * Used by flow_log and flow_stream.  No I/O.  Threads: one at a time; it may be handed on.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct conntrack_flow;
struct flow_timeouts;
struct flow_network;
struct flow_table;
struct network;
struct port;
struct strbuf;

struct flow_table *flow_table_new(void);
void flow_table_free(struct flow_table *table);
DEFINE_AUTO(struct flow_table *, flow_table_free)

/* `zone`: of its flows on the node; an isolated one without any has none there. */
void flow_table_add_network(struct flow_table *table, const struct network *network, uint16_t zone);

/* A router that joins `network_uids` (a strv). */
void flow_table_add_router(struct flow_table *table, const char *uid, const char *name,
			   char *const *network_uids);

/* An instance's port; its network comes before or later. */
void flow_table_add_port(struct flow_table *table, const char *instance_uid, const char *name,
			 int64_t created_ms, const struct port *port);

/*
 * Everything is in it.  `before` (NULL: there is none) says since when those that are in both have
 * their addresses, and who has gone.
 */
void flow_table_follow(struct flow_table *table, const struct flow_table *before, int64_t now_ms);

/* Calls `fn` for every network that has the flow, of the node (NULL) or a router. */
typedef void (*flow_match_fn)(const struct flow_network *network, void *data);
void flow_table_match(const struct flow_table *table, const char *router_uid,
		      const struct conntrack_flow *flow, flow_match_fn fn, void *data);

/* Whether the router joins the network. */
bool flow_table_joins(const struct flow_table *table, const char *router_uid,
		      const char *network_uid);

const char *flow_network_uid(const struct flow_network *network);

/*
 * Appends an object without a line end.  `timeouts`: of where it was tracked, to say when its last
 * packet came; NULL: it has not ended.
 */
void flow_table_line(const struct flow_table *table, const struct flow_network *network,
		     const char *router_uid, const struct conntrack_flow *flow,
		     const struct flow_timeouts *timeouts, struct strbuf *line);
