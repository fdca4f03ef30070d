#pragma once
/*
 * kern/link_gre.h - GRE tunnels that carry Ethernet frames (gretap, RFC 2784 and 2890) over IPv4.
 *
 * A device has one remote and one key; the kernel gives it the packets that come from there with
 * that key, and no others.  Used by net/.  One request each over a struct netlink of NETLINK_ROUTE.
 * Returns 0 or -errno.  No state.  Threads: as struct netlink.
 */
#include <stdbool.h>
#include <stdint.h>

#include "kern/link.h"
#include "kern/route.h"

struct link_gre {
	uint32_t key;
	struct route_ip local; /* source address of what is sent; family 0 = the kernel's choice */
	struct route_ip remote;
};

/* Born down, on the bridge with the index `master`. */
int link_add_gre(struct netlink *nl, const char *name, int master, const struct link_gre *gre);

/* -ENODEV: no such interface, or one of another kind. */
int link_read_gre(struct netlink *nl, const char *name, struct link_gre *ret);

/* A port of a bridge that exchanges nothing with other ports of this kind. */
int link_split_port(struct netlink *nl, int index);
