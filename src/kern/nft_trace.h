#pragma once
/*
 * kern/nft_trace.h - what nftables tells about packets whose trace is switched on (meta nftrace).
 *
 * One socket hears of the namespace it was opened in, and of all that this one has a number for
 * (link_nsid(); the other end of a veth pair has got one), in the order in which things happened:
 * a packet that goes from one namespace to the next is never told of in the wrong order.  Whoever
 * switches a trace on is heard: what is not one's own is to be left aside by the packet itself.
 *
 * Used by net/.  Decoding is pure and bounded.  Returns 0 or -errno.  Threads: no state but the fd.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kern/link.h"
#include "kern/route.h"

struct nft;

enum { NFT_TRACE_NAME_SIZE = 64, NFT_TRACE_HOOK_SIZE = 12 };

/* The packet as it was when it entered a chain that has a hook. */
struct nft_trace_packet {
	struct route_ip source, destination; /* `family` 0: it is not IP, or cut */
	uint8_t protocol;                    /* IPPROTO_* */
	/* Those of TCP and UDP; of an echo its id is the first. 0: there are none, or not known. */
	uint16_t source_port, destination_port;
	uint8_t tcp_flags;
	uint8_t icmp_type, icmp_code;
	bool arp; /* of IPv4: source and destination are those it speaks of */
	bool has_mac;
	uint8_t mac[LINK_MAC_SIZE]; /* who sent the frame */
};

enum nft_trace_kind { NFT_TRACE_RULE, NFT_TRACE_POLICY, NFT_TRACE_RETURN };

struct nft_trace_event {
	int nsid; /* NFT_TRACE_HERE, or another namespace's number */
	enum nft_trace_kind kind;
	uint8_t family;                  /* of the table: NFPROTO_* */
	uint32_t id;                     /* of the packet, as long as it is the same one */
	char table[NFT_TRACE_NAME_SIZE]; /* cut when longer */
	char chain[NFT_TRACE_NAME_SIZE];
	uint64_t handle; /* of the rule; 0 = none */
	int verdict;     /* NF_ACCEPT, NFT_CONTINUE... */
	char to[NFT_TRACE_NAME_SIZE];
	uint32_t mark;
	bool has_packet; /* the first event of each chain that has a hook: the next three */
	uint32_t iif, oif;
	struct nft_trace_packet packet;
};

enum { NFT_TRACE_HERE = -1 };

/* A non-blocking fd. */
int nft_trace_open(int *ret_fd);

/*
 * Hands what is there to `fn`, a bounded number of events.  -ENOBUFS: some before these were lost.
 */
int nft_trace_read(int fd, void (*fn)(const struct nft_trace_event *event, void *data), void *data);

/* One message; `nsid` is not set.  -EBADMSG: it is none of these, or broken. */
int nft_trace_decode(const void *message, size_t size, struct nft_trace_event *ret);

/* Where a chain stands; all borrowed for the call. */
struct nft_hook {
	uint8_t family;
	const char *table, *chain;
	uint32_t hook;
};

/* Hands all chains that have a hook, of all families, to `fn`. */
int nft_list_hooks(struct nft *nft, void (*fn)(const struct nft_hook *hook, void *data),
		   void *data);

/* "prerouting"; "?" when it is not known. */
const char *nft_hook_name(uint8_t family, uint32_t hook);

/* "inet"; "?" when it is not known. */
const char *nft_family_name(uint8_t family);
