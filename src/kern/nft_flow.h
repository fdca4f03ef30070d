#pragma once
/*
 * kern/nft_flow.h - the flows that the kernel tracks (conntrack).
 *
 * Used by net/.  Requests over a struct netlink of NETLINK_NETFILTER.  Returns 0 or -errno.  No
 * state. Threads: as struct netlink.
 */
#include <stdint.h>

struct netlink;

/*
 * Forgets the flows of `protocol` (IPPROTO_*) whose first packet went to `port` (host order), so
 * that the next packet is looked at anew.  `family` is AF_INET or AF_INET6.
 */
int nft_flow_forget(struct netlink *nl, int family, uint8_t protocol, uint16_t port);
