#pragma once
/*
 * net/observe_internal.h - removal of interfaces that nobody wants.
 *
 * Used by observe.c and node.c, with the lock of struct net held.
 */
#include "net/observe.h"

/*
 * Deletes bridges, veths and taps of ours that are not wanted, without what else belongs to them.
 * `report` may be NULL.
 */
int observe_remove_links(struct net *net, const struct net_wanted *wanted,
			 struct net_gc_report *report, struct error *err);
