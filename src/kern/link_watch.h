#pragma once
/*
 * kern/link_watch.h - hears of interfaces that come, change and go, and of addresses and queues
 * that go.
 *
 * Used by agent/ and net/.  An fd, of the network namespace of the calling thread, that becomes
 * readable; the caller closes it.  No other state.
 */
#include <stdbool.h>

struct link;

int link_watch(void); /* the fd, non-blocking, or -errno */

/*
 * Reads what there is.  `fn` gets every interface that has changed, `gone` when it has been
 * removed; NULL when messages were lost: then anything may have changed.
 */
typedef void (*link_watch_fn)(const struct link *link, bool gone, void *data);
void link_watch_read(int fd, link_watch_fn fn, void *data);

/*
 * An fd that becomes readable when an address that stands alone (/32, /128) is taken off an
 * interface; for rtnl_watch_read().
 */
int link_watch_aliases(void);

/* The same for a queue, or a filter, that is taken off an interface. */
int link_watch_queues(void);
