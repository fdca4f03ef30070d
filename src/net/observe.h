#pragma once
/*
 * net/observe.h - what exists with our prefix, and the end of what nobody wants.
 *
 * Used by the agent at start (what is there?), after `assigned_all` (what is garbage?), and by
 * tests that look for leaks.  Uses net/node.h.  Threads and crash: see there.
 */
#include <stddef.h>

#include "base/cleanup.h"

struct error;
struct net;

/* All lists are NULL-terminated and sorted, see base/strv.h. */
struct net_observed {
	char **networks;  /* uids of bridges and of folders in RUN/networks */
	char **routers;   /* uids of folders in RUN/routers, and of what stands behind them */
	char **ports;     /* uids of ports that have a veth, a tap, or a queue */
	char **names;     /* uids of ports that have a name in a network */
	char **guarded;   /* uids of ports that have a guard */
	char **counted;   /* uids of ports that have counts */
	char **groups;    /* uids of security groups */
	char **balancers; /* uids of load balancers */
	char **published; /* uids of instances, and routers, that have published ports */
	size_t elements;  /* of all sets and maps of our table */
};

void net_observed_done(struct net_observed *observed);
static inline void net_observed_done_autop(struct net_observed *observed)
{
	net_observed_done(observed);
}

int net_observe(struct net *net, struct net_observed *ret, struct error *err);

/* How many things were removed. */
struct net_gc_report {
	size_t networks, ports, published, names, guards, groups, counts, routers;
};

/* Uids in NULL-terminated lists; NULL is an empty one. */
struct net_wanted {
	char *const *networks, *const *ports, *const *instances, *const *groups, *const *routers;
	/*
	 * Only what was there then goes: of what has come since, these lists may not know.  NULL:
	 * whatever is there.
	 */
	const struct net_observed *before;
};

/*
 * Removes every network, router and group of ours that is not wanted, every veth, tap, queue,
 * guard, DNS name and count of ports, and every published port of instances and routers that are
 * not.
 */
int net_gc(struct net *net, const struct net_wanted *wanted, struct net_gc_report *ret,
	   struct error *err);
