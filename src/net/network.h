#pragma once
/*
 * net/network.h - a bridge network: the bridge, its gateway addresses, its rules and its names.
 *
 * Used by the agent; uses net/node.h.  What a network of ours is:
 *   - a bridge `PREFIX-UID` that holds the gateway addresses;
 *   - its instances reach each other, the outside, and published ports; not the instances of other
 *     networks, nor other networks' gateways;
 *   - with `nat`, what leaves to the outside is masqueraded (IPv4 and IPv6) and nothing from
 * outside comes in but answers and published ports.  Without it packets are routed as they are,
 * both ways;
 *   - an isolated one is the bridge alone: the node has no address there, not even a link-local
 *     one, answers nothing and forwards nothing, so its subnet may be any other's, too;
 *   - one dnsmasq that answers on the bridge only: it knows the instances by `NAME`,
 *     `NAME.DOMAIN` and `NAME.ZONE`, those of the project's other networks by their `NAME.ZONE`,
 *     and asks the host's resolvers for everything that does not end in `internal`;
 *   - with `dhcp` another one, which gives each port its addresses, and nobody else any.
 * The other drivers (net/driver_internal.h) put ports on a segment that is not ours: macvlans on
 * an interface of the node, veths and taps on a bridge of it or of Open vSwitch.  There the gateway
 * is somebody else's, and there are no names, published ports, groups, walls or tunnels.
 *
 * A policy of the host's own firewall (say, a forward chain that drops) still applies before or
 * after ours: a table of ours can refuse packets, never allow what another table refuses.
 *
 * Threads and crash: see net/node.h.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct error;
struct net;

enum { NETWORK_BRIDGE_SIZE = 16, NETWORK_MTU_MAX = 65535 };

/*
 * The same network on other nodes: frames for them travel in UDP (VXLAN) or in GRE.  Who sends such
 * packets and is not one of `remotes` is not heard, whatever the number.
 */
struct tunnel_spec {
	bool gre;
	uint32_t vni;      /* 1..16777215, of GRE the key: any but 0; the same on all nodes; 0 = no
			      tunnel */
	uint16_t port;     /* of UDP, the same on all nodes; 0 = 4789 */
	const char *local; /* the node's address for it; NULL or "" = the kernel's choice */
	char *const *remotes; /* NULL-terminated addresses of one family */
};

/* What is wanted.  All strings are borrowed and checked here, wherever they came from. */
struct bridge_spec {
	const char *uid; /* 1..32 hex digits */
	/* "bridge" (NULL, ""), "macvlan", "physical" or "ovs": see below */
	const char *driver;
	const char *mode;     /* of macvlan: "private", "vepa", "bridge" (NULL, ""), "passthru" */
	const char *uplink;   /* an interface of the node; a bridge of it; NULL or "" = none */
	const char *ipv4;     /* "10.90.0.0/24", NULL or "" for none; host bits must be zero */
	const char *gateway4; /* an address of it; NULL or "" = the first one, or nobody's */
	const char *ipv6;     /* "fd00:1::/64" */
	const char *gateway6;
	bool nat;
	bool isolated;          /* the node has no address on it, and passes nothing in or out */
	const char *dns_domain; /* NULL or "" = "brume.internal" */
	/* NAME.PROJECT.internal: what its instances' full names end in; NULL or "" = they have none
	 */
	const char *zone;
	const char *project; /* whose networks' names its resolver knows; goes with `zone` */
	bool dhcp;           /* not when it is isolated */
	bool advertise;      /* routing daemons of the node are to announce it: routed ones only */
	/* 0 = 1500, or what a tunnel leaves of its underlay; 1280 at least when there is IPv6, else
	 * 576 */
	uint32_t mtu;
	struct tunnel_spec tunnel;
	bool flow_log; /* what is bridged is tracked, too: net/flow.h */
};

/* How a server of the network is run; the agent hands it to the keeper. */
struct network_dns {
	/* Stays in the foreground, logs to stderr, drops root by itself; NULL: none is needed. */
	char **argv;
	/*
	 * The configuration on disk is not the one of before (also on the first call): a running
	 * dnsmasq of this network must be started again.  Instances that come and go need nothing:
	 * it watches a folder.  But of a lease that has gone or changed it hears only when it
	 * starts.
	 */
	bool restart;
};

/* The interface that a network depends on; of driver bridge its bridge, of which the index counts.
 */
struct uplink_status {
	int index;    /* 0 = there is none */
	uint32_t mtu; /* 0: it does not matter */
	bool up;      /* it has to be */
};

struct bridge_status {
	char bridge[NETWORK_BRIDGE_SIZE]; /* "" of driver macvlan */
	uint32_t mtu;                     /* what ports of it must have */
	uint16_t zone;                    /* of its flows; 0: that of all who are not isolated */
	struct uplink_status uplink;
	struct network_dns dns;
	struct network_dns dhcp; /* another one, for leases */
};

void bridge_status_done(struct bridge_status *status);
static inline void bridge_status_done_autop(struct bridge_status *status)
{
	bridge_status_done(status);
}

/* Makes the network what `spec` says, whatever of it is there already. */
int network_ensure(struct net *net, const struct bridge_spec *spec, struct bridge_status *ret,
		   struct error *err);

/* Takes everything of it away, missing parts are fine.  Stop its dnsmasq first. */
int network_remove(struct net *net, const char *uid, struct error *err);

/* Only checks `spec`: 0 or -EINVAL and a line for the user. */
int network_check(const struct bridge_spec *spec, struct error *err);
