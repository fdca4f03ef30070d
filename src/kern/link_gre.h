#pragma once
/*
 * kern/link_gre.h - GRE tunnels that carry Ethernet frames (gretap, ip6gretap; RFC 2784 and 2890).
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
	/* Source address of what is sent, of the remote's family.  Family 0: the kernel's choice,
	   over IPv4; over IPv6 it makes none. */
	struct route_ip local;
	struct route_ip remote;
};

/* What a device to `family` is called. */
static inline const char *link_gre_kind(int family)
{
	return family == AF_INET6 ? "ip6gretap" : "gretap";
}

/* Born down, on the bridge with the index `master`. */
int link_add_gre(struct netlink *nl, const char *name, int master, const struct link_gre *gre);

/* -ENODEV: no such interface, or one of another kind. */
int link_read_gre(struct netlink *nl, const char *name, struct link_gre *ret);

/* A port of a bridge that exchanges nothing with other ports of this kind. */
int link_split_port(struct netlink *nl, int index);
