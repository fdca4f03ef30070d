#pragma once
/*
 * kern/route.h - addresses of interfaces, default routes, and the way to an address.
 *
 * Used by net/.  One request each over a struct netlink of NETLINK_ROUTE.  Returns 0 or -errno.
 * No state.  Threads: as struct netlink.
 */
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct netlink;

/* An address of either family, in network order; `family` 0 = none. */
struct route_ip {
	int family; /* AF_INET, AF_INET6 or 0 */
	uint8_t prefix;
	uint8_t bytes[16]; /* 4 or 16 used, the rest zero */
	uint32_t metric;   /* of an interface's address: that the route to its subnet has; 0 = the
			      kernel's choice */
};

static inline size_t route_ip_size(const struct route_ip *ip)
{
	return ip->family == AF_INET6 ? 16 : 4;
}

/*
 * Adds `ip` with its prefix length; it is usable at once (no duplicate address detection).  One
 * that is there already is fine.
 */
int route_add_address(struct netlink *nl, int link_index, const struct route_ip *ip);

/* The same for an address that the kernel shall not choose as the source of what it sends. */
int route_add_alias(struct netlink *nl, int link_index, const struct route_ip *ip);

int route_delete_address(struct netlink *nl, int link_index, const struct route_ip *ip);

/*
 * Hands the addresses of an interface (0: of all) to `fn`, those that the kernel made by itself
 * (link-local) left out.  `fn` may not use `nl`.  -EINTR: changed meanwhile, begin anew.
 */
int route_list_addresses(struct netlink *nl, int link_index,
			 void (*fn)(int link_index, const struct route_ip *ip, void *data),
			 void *data);

/* Makes `gateway` the default route of its family, in place of another that has the same metric. */
int route_set_default(struct netlink *nl, int link_index, const struct route_ip *gateway);

/* The way that a packet to `to` takes from here. */
struct route_way {
	int link_index;
	uint32_t mtu;           /* that the route itself names; 0 = the interface's */
	struct route_ip source; /* what a sender without a wish has there; family 0 = unknown */
};

/* -ENETUNREACH, -EHOSTUNREACH: there is none. */
int route_look_up(struct netlink *nl, const struct route_ip *to, struct route_way *ret);

/*
 * The kernel answers a request for an IPv6 address before it listens to it: the local route and the
 * multicast group of neighbour discovery follow on a work queue, and a first packet in between
 * costs its sender a second.  So: open a watch (an fd), add the address, do other things, await.
 * route_await() returns 0 when the address has been announced, -ETIMEDOUT after a second.  What the
 * announcement begins has ended when the next link_settle() in that namespace returns.
 */
int route_watch(void);
int route_await(int watch_fd, int link_index, const struct route_ip *ip);
