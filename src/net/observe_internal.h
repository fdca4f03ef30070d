#pragma once
/*
 * net/observe_internal.h - removal of interfaces that nobody wants.
 *
 * Used by observe.c and node.c.
 */
#include "net/observe.h"

/*
 * Deletes bridges, veths and taps of ours that are not wanted, without what else belongs to them.
 * `report` may be NULL.  With the lock of struct net held.
 */
int observe_remove_links(struct net *net, const struct net_wanted *wanted,
			 struct net_gc_report *report, struct error *err);

/* Deletes bridges and ports of ours in Open vSwitch, likewise.  Without the lock. */
int observe_remove_ovs(struct net *net, const struct net_wanted *wanted,
		       struct net_gc_report *report, struct error *err);
