#pragma once
/*
 * net/count_internal.h - the counting of a port.
 *
 * Used by port.c, tap.c and observe.c, with the lock of struct net held.
 */
#include "kern/link.h"
#include "net/count.h"
#include "net/network_internal.h"

/* The order in which filters see a packet. */
enum { FILTER_PRIORITY_COUNT = 1, FILTER_PRIORITY_LIMIT = 2 };

/*
 * From now on what passes the interface `port` is counted as the port `uid`'s.  -EOPNOTSUPP: this
 * kernel cannot.
 */
int count_ensure(struct net *net, const struct network_plan *network, const struct link *bridge,
		 const struct link *port, const char *uid, struct error *err);

/* count_each() and count_forget() for those who hold the lock. */
int count_each_locked(struct net *net, const char *network_uid, count_fn fn, void *data,
		      struct error *err);
int count_forget_locked(struct net *net, const char *network_uid, const char *port_uid,
			struct error *err);
