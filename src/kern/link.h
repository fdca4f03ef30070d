#pragma once
/*
 * kern/link.h - network interfaces: find, create, change, delete.
 *
 * Used by net/.  One request each over a struct netlink of NETLINK_ROUTE, in the network namespace
 * which that socket belongs to.  Returns 0 or -errno (-ENODEV: no such interface).  No state.
 * Threads: as struct netlink.
 */
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

struct netlink;
struct nlmsghdr;

enum { LINK_MAC_SIZE = 6, LINK_KIND_SIZE = 16, LINK_ALIAS_SIZE = 64 };

/* The kernel's view of one interface. */
struct link {
	int index;
	int master;     /* index of its bridge, 0 = none */
	int peer_index; /* of a veth */
	int peer_nsid;  /* link_nsid() of the peer's namespace; -1 = the same as ours */
	unsigned int flags;
	uint32_t mtu;
	uint8_t mac[LINK_MAC_SIZE];
	char name[IF_NAMESIZE];
	bool filters;                /* a bridge: what it forwards passes the host's IP rules */
	char kind[LINK_KIND_SIZE];   /* "bridge", "veth", "" */
	char alias[LINK_ALIAS_SIZE]; /* cut when longer */
};

int link_find(struct netlink *nl, const char *name, struct link *ret);
int link_find_index(struct netlink *nl, int index, struct link *ret);

/*
 * What a message of the kernel says of one interface.  -EINVAL: nothing; -EPROTO: it speaks of a
 * bridge's port only, not of the interface.
 */
int link_decode(const struct nlmsghdr *message, struct link *ret);

/* Counted since the interface was made. */
struct link_counters {
	uint64_t rx_bytes, rx_packets, rx_dropped;
	uint64_t tx_bytes, tx_packets, tx_dropped;
};

int link_read_counters(struct netlink *nl, const char *name, struct link_counters *ret);

/*
 * Hands every interface of `kind` (NULL = any) to `fn`, which may not use `nl`; a value < 0 ends
 * the walk. -EINTR: the list changed meanwhile, begin anew.
 */
int link_list(struct netlink *nl, const char *kind, int (*fn)(const struct link *link, void *data),
	      void *data);

/* A bridge without spanning tree and multicast snooping, so that its ports forward at once; down.
 */
int link_add_bridge(struct netlink *nl, const char *name, const uint8_t mac[LINK_MAC_SIZE]);

/*
 * Makes a bridge believe less: it does not learn senders from frames to reserved addresses (LLDP,
 * say), which no rule of netfilter sees before.  `filter`: from now on what it forwards passes
 * the host's IP rules too (br_netfilter), by a switch of its own, which needs no global one.
 */
int link_guard_bridge(struct netlink *nl, int index, bool filter);

/* That switch alone, on or off. */
int link_filter_bridge(struct netlink *nl, int index, bool on);

struct link_veth {
	const char *name;
	int master; /* index of the bridge it is born on; 0 = none */
	uint32_t mtu;
	const char *peer_name;
	int peer_netns_fd; /* the namespace the peer is born in */
	const uint8_t *peer_mac;
};

/* Both ends in one message; both down. */
int link_add_veth(struct netlink *nl, const struct link_veth *veth);

/* What to change; zeroed members stay as they are. */
struct link_change {
	const char *name; /* of one that is down */
	const char *alias;
	const uint8_t *mac;
	uint32_t mtu;
	uint32_t group; /* a number that rules can ask for (iifgroup) */
	int master;
	bool hairpin;       /* the bridge may send a frame back to the port it came from */
	bool no_link_local; /* IPv6 makes no address of its own for it */
	bool up;
	bool down;
};

int link_set(struct netlink *nl, int index, const struct link_change *change);

/*
 * Has the kernel finish at once what it puts off after a carrier change (a bridge lets its port
 * forward, a queue is started): without it the first packets may be lost, and TCP tries again only
 * after a second.  Works since Linux 6.8; before, it is a question without effect.
 */
int link_settle(struct netlink *nl, const char *name);

/* Blocks for some 15 ms on a veth: only off the path of a request. */
int link_delete(struct netlink *nl, int index);

/*
 * The number that the namespace of `nl` knows the namespace behind `netns_fd` by (>= 0), or -1 when
 * it has none yet (then no interface here has a peer there).
 */
int link_nsid(struct netlink *nl, int netns_fd, int *ret);

/*
 * Sets /proc/sys/net/ipv4|6/conf/NAME/KEY of the calling thread's network namespace.  `family` is
 * AF_INET or AF_INET6.
 */
int link_sysctl(int family, const char *name, const char *key, const char *value);
