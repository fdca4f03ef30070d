#pragma once
/*
 * kern/qdisc.h - what an interface does with packets before they leave: a rate, and a place for
 * filters.
 *
 * Used by net/.  One request each over a struct netlink of NETLINK_ROUTE.  Returns 0 or -errno
 * (-ENOENT where the kernel has no such queue).  No state.  Threads: as struct netlink.
 */
#include <stdint.h>

struct netlink;

/*
 * A token bucket: what is sent is at most `burst_bytes` at once and `rate_bytes_ps` in the long
 * run; `limit_bytes` may wait, the rest is dropped.  Whole frames count, of a large packet that the
 * device would cut each one.  A packet larger than the burst is cut first.
 */
struct qdisc_tbf {
	uint64_t rate_bytes_ps;
	uint32_t burst_bytes, limit_bytes;
};

/* In place of whatever the interface had; what waits in another token bucket goes on waiting. */
int qdisc_set_tbf(struct netlink *nl, int link_index, const struct qdisc_tbf *tbf);

/* The burst is not told (0).  -ENOENT: it has another queue, or none. */
int qdisc_read_tbf(struct netlink *nl, int link_index, struct qdisc_tbf *ret);

/* Back to what the interface was born with; nothing to delete is fine. */
int qdisc_delete_root(struct netlink *nl, int link_index);

/* Makes room for filters (kern/filter.h) on both ways; it may be there already. */
int qdisc_add_clsact(struct netlink *nl, int link_index);

/*
 * An interface that gives back what it is sent, as if it had just come in where it came from: so
 * that what comes in can wait in a queue.  Born down.
 */
int qdisc_add_ifb(struct netlink *nl, const char *name);
