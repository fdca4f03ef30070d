#pragma once
/*
 * net/flow.h - who talks with whom, as the kernel tracks it, on the node and in its routers.
 *
 * Flows of isolated networks have a conntrack zone of their own (struct bridge_status), those of
 * all others are told apart by their addresses.  What is bridged inside of a network is tracked
 * only when its switch is on (struct bridge_spec, `flow_log`).  A router has a table of its own.
 *
 * Used by the agent; uses net/node.h and kern/conntrack.h.  Threads: on workers; what happens in a
 * router is done by the calling thread, which comes back.  Crash: what the node's settings were
 * before stands in RUN/networks/conntrack until they are put back.
 */
#include <stdbool.h>
#include <stdint.h>

#include "kern/conntrack.h"

struct error;
struct net;

/*
 * Has the kernel count flows that begin from now on, note when they began, and tell the end of each
 * one; or makes that what it was before.  `router_uid` NULL: on the node.  *ret_changed (may be
 * NULL) is true when it was not so already: then flows that are there have no counts, and may end
 * unheard. A kernel that lacks one of it is no error.
 */
int flow_account(struct net *net, const char *router_uid, bool on, bool *ret_changed,
		 struct error *err);

/* An fd for conntrack_read(), the caller's.  -ENOENT: there is no such router. */
int flow_watch(struct net *net, const char *router_uid, int *ret_fd, struct error *err);

enum { FLOW_TCP_STATES = 10 };

/* How long the kernel remembers a flow after its last packet, in seconds; 0: not known. */
struct flow_timeouts {
	uint32_t tcp[FLOW_TCP_STATES]; /* by state, TCP_CONNTRACK_* */
	uint32_t udp, udp_stream, icmp, icmpv6, other;
};

int flow_read_timeouts(struct net *net, const char *router_uid, struct flow_timeouts *ret,
		       struct error *err);

/* When the last packet of a flow came that has ended, by what is known. */
uint64_t flow_last_ns(const struct conntrack_flow *flow, const struct flow_timeouts *timeouts);

/* All flows that are there. */
int flow_dump(struct net *net, const char *router_uid, conntrack_fn fn, void *data,
	      struct error *err);
