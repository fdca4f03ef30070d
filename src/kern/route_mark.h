#pragma once
/*
 * kern/route_mark.h - routes by which a routing daemon knows what to announce.
 *
 * Used by net/.  The mark is the metric: that of an address, which is the metric of the route to
 * its subnet (struct route_ip), and that of an anchor.  An anchor is a `blackhole` route of a
 * protocol of our own to the same subnet.  It stays when the interface has no carrier, so nothing
 * flaps with the instances that come and go, and what is sent to a subnet that is announced never
 * leaves by the default route again.  The kernel prefers the other route as long as there is one.
 *
 * The first byte of an anchor's metric is what FRR takes for an administrative distance.  The mark
 * is less than the metric that routing daemons install routes with (FRR 20, BIRD 32): a peer that
 * announces one of our subnets to us takes nothing away.
 *
 * One request each over a struct netlink of NETLINK_ROUTE.  Returns 0 or -errno.  No state.
 * Threads: as struct netlink.
 */
#include <stdbool.h>

#include "kern/route.h"

enum {
	ROUTE_MARK_PROTOCOL = 98,
	ROUTE_MARK_METRIC = 17,
	ROUTE_MARK_ANCHOR_METRIC = 1 << 24 | ROUTE_MARK_METRIC,
};

/* Returns 1 when it was not there. */
int route_mark_add(struct netlink *nl, const struct route_ip *to);

/* One that is not there is fine; a route of others to the same subnet is left alone. */
int route_mark_delete(struct netlink *nl, const struct route_ip *to);

/*
 * Hands the anchors of a family to `fn`, which may not use `nl`.  -EINTR: changed meanwhile, begin
 * anew.
 */
int route_mark_list(struct netlink *nl, int family,
		    void (*fn)(const struct route_ip *to, void *data), void *data);

/*
 * An fd that becomes readable when a route of our protocol comes or goes.  It hears of no others,
 * of which a router may have a million.  For rtnl_watch_read().
 */
int route_mark_watch(void);
