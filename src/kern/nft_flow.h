#pragma once
/*
 * kern/nft_flow.h - the flows that the kernel tracks (conntrack).
 *
 * Used by net/.  Requests over a struct netlink of NETLINK_NETFILTER.  Returns 0 or -errno.  No
 * state. Threads: as struct netlink.
 */
#include <stdbool.h>
#include <stdint.h>

#include "kern/route.h"

struct netlink;

/*
 * Forgets the flows of `protocol` (IPPROTO_*) whose first packet went to `port` (host order), so
 * that the next packet is looked at anew.  `family` is AF_INET or AF_INET6.
 */
int nft_flow_forget(struct netlink *nl, int family, uint8_t protocol, uint16_t port);

/* A flow that was led elsewhere: who answers is not whom its first packet was sent to. */
struct nft_flow {
	uint8_t to[16],
		from[16];   /* whom the first packet was sent to, who answers; 4 or 16 bytes */
	uint16_t from_port; /* of who answers, host order */
	bool live;          /* of tcp: it is being opened, open, or half closed */
};

/*
 * Hands the flows of `protocol` whose first packet went to `port` to `fn`; those for which it
 * returns true are forgotten.  -EINTR: the table changed meanwhile, some may have been left out.
 */
int nft_flow_each(struct netlink *nl, int family, uint8_t protocol, uint16_t port,
		  bool (*fn)(const struct nft_flow *flow, void *data), void *data);

/* One direction of a flow; of an echo its id is the port of the source. */
struct nft_flow_ends {
	struct route_ip source, destination;
	uint8_t protocol;
	uint16_t source_port, destination_port; /* host order */
};

/* How the flow whose first packet was this one is answered.  -ENOENT: there is none. */
int nft_flow_find(struct netlink *nl, const struct nft_flow_ends *first,
		  struct nft_flow_ends *ret_reply);
