#pragma once
/*
 * kern/link_macvlan.h - macvlan and macvtap: interfaces with a MAC of their own on another one.
 *
 * Used by net/.  As kern/link.h: one request each, 0 or -errno, no state.
 */
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

struct netlink;

struct link_macvlan {
	int lower;     /* index of the interface below, in the namespace of `nl` */
	uint32_t mode; /* MACVLAN_MODE_... of linux/if_link.h */
	uint32_t mtu;  /* 0 = as below */
	const uint8_t *mac;
	bool tap;     /* a macvtap: its frames are read from /dev/tapINDEX */
	int netns_fd; /* the namespace that it is born in; -1 = that of `nl` */
};

/*
 * -EINVAL: passthru shares the one below with nobody, now or already.  -EBUSY: that is a port of a
 * bridge.  -EOPNOTSUPP: the kernel has no macvlan.
 */
int link_add_macvlan(struct netlink *nl, const char *name, const struct link_macvlan *macvlan);

/* Its mode; -ENODEV when there is no macvlan or macvtap of this name. */
int link_read_macvlan(struct netlink *nl, const char *name, uint32_t *ret_mode);
