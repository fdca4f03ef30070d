#pragma once
/*
 * net/observe_internal.h - removal of interfaces that nobody wants.
 *
 * Used by observe.c and node.c, with the lock of struct net held.
 */
#include "net/observe.h"

/*
 * Deletes bridges and veths of ours that belong to no uid of the two lists (NULL: empty).  Networks
 * lose their rules and folders too.  `report` may be NULL.
 */
int observe_remove_links(struct net *net, char *const *networks, char *const *instances,
			 struct net_gc_report *report, struct error *err);
