#pragma once
/*
 * kern/route_table.h - routes of the main table that somebody set, and answering for others.
 *
 * Used by net/.  One request each over a struct netlink of NETLINK_ROUTE.  Returns 0 or -errno.
 * No state.  Threads: as struct netlink.
 */
#include <stdbool.h>

#include "kern/route.h"

/* Those that come with addresses are the kernel's own. */
struct route_line {
	struct route_ip to;  /* a subnet, its prefix says how large */
	struct route_ip via; /* family 0: everybody is on the link itself */
	int link_index;
	/* Of the protocol and with the metric of kern/route_mark.h: else "static", without one. */
	bool marked;
};

/* In place of another one to the same subnet that is marked or not as this one is. */
int route_line_add(struct netlink *nl, const struct route_line *line);

/* One that is not there is fine. */
int route_line_delete(struct netlink *nl, const struct route_line *line);

/*
 * Hands those of a link (0: of all) and a family to `fn`, which may not use `nl`.  -EINTR: changed
 * meanwhile, begin anew.
 */
int route_line_list(struct netlink *nl, int family, int link_index,
		    void (*fn)(const struct route_line *line, void *data), void *data);

/*
 * On that link the kernel answers ARP or neighbour discovery for an address that lives elsewhere
 * (IPv6: when the link's sysctl proxy_ndp is on), or does no more.
 */
int route_set_proxy(struct netlink *nl, int link_index, const struct route_ip *ip, bool on);
