#pragma once
/*
 * net/guard_internal.h - whether what a bridge forwards must be judged.
 *
 * It must, when a port with groups is on it, unless all of its ports are in one group that lets its
 * members do everything: that costs a tenth of what two instances can send each other, and what is
 * routed is judged anyway.  With the lock of struct net held.
 */
#include "net/guard.h"

/*
 * For network.c.  What a new agent has not been told yet is no reason.
 * Where a flow log is kept it is switched on, too: what the bridge forwards is tracked only then.
 */
bool guard_needs_filter(struct net *net, const char *bridge);

/*
 * For router.c: the interface `name`, which sends for others, comes to `bridge`, or is gone (NULL).
 * Before it is on the bridge: nothing of what it brings goes unjudged.
 */
int guard_set_stranger(struct net *net, const char *name, const char *bridge, struct error *err);

/*
 * For group.c: the group is about to let less through among its members.  The bridges that needed
 * no judge because of it get one; the lock is let go for a moment, so that connections which are
 * there are known before anything is denied.
 */
int guard_group_closes(struct net *net, const char *uid, struct error *err);
