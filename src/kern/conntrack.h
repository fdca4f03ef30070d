#pragma once
/*
 * kern/conntrack.h - the flows that the kernel tracks: told as they end, or listed as they are.
 *
 * A flow's numbers are the kernel's own: bytes and packets are there when nf_conntrack_acct was on
 * when it began, times likewise with nf_conntrack_timestamp.  So nobody has to remember a flow to
 * know all about it when it ends.
 *
 * Used by net/flow.h and the agent.  conntrack_decode() is pure; the others work in the network
 * namespace of the calling thread (watch) or of the socket (dump, read).  No state.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct netlink;

/* One direction: who sends to whom.  4 or 16 bytes; ports in host order, 0 where there are none. */
struct conntrack_way {
	uint8_t source[16], destination[16];
	uint16_t source_port, destination_port;
	uint16_t icmp_id; /* host order */
	bool counted;
	uint64_t bytes, packets;
};

struct conntrack_flow {
	uint8_t family; /* AF_INET, AF_INET6 */
	uint8_t protocol;
	uint16_t zone;
	bool answered;                /* the other side has sent something, too */
	bool assured;                 /* and both went on */
	uint8_t icmp_type, icmp_code; /* of the first packet */
	struct conntrack_way there;   /* as its first packet was sent */
	struct conntrack_way back;    /* as answers to it are sent: untranslated the mirror */
	uint64_t start_ns, stop_ns;   /* since 1970; 0: not known */
	bool has_tcp_state;
	uint8_t tcp_state; /* TCP_CONNTRACK_* */
	uint32_t left_s;   /* of its time-out: > 0 when it was ended before */
};

/* One netlink message with its header.  0, -ENOMSG: it is about something else, or -EBADMSG. */
int conntrack_decode(const void *message, size_t size, struct conntrack_flow *ret);

typedef void (*conntrack_fn)(const struct conntrack_flow *flow, void *data);

/* An fd that becomes readable when flows end, non-blocking; the caller closes it.  Or -errno. */
int conntrack_watch(void);

/*
 * Hands flows that have ended to `fn`, after `max` messages at the latest.  1: there may be more
 * now; 0: there are none.  *ret_lost is how many the fd has had no room for in all its life.
 */
int conntrack_read(int fd, size_t max, conntrack_fn fn, void *data, uint32_t *ret_lost);

/* Hands all flows that are there to `fn`.  -EINTR: some may have been left out. */
int conntrack_dump(struct netlink *nl, conntrack_fn fn, void *data);
