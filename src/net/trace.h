#pragma once
/*
 * net/trace.h - what really becomes of one packet: it is sent, and each rule that it meets is told.
 *
 * A probe (a connection that is begun, a datagram, an echo) goes from a port of an instance to an
 * address.  For it alone the kernel's trace is switched on, by tables of our own:
 *
 *	bridge PREFIX-t1	gate: sees the probe by all that is known of it, first of all rules
 *	inet PREFIX-t1		enter, leave, arrive: it comes back from a router; as it leaves
 *	inet PREFIX-t1		the same in the namespaces of the node's routers
 *
 * (PREFIX-t2 for a second trace at the same time; netdev PREFIX-t1 for drivers ovs and macvlan.)
 * They belong to sockets of ours: the kernel takes them away when these are closed, so nothing is
 * left, whoever dies when.  What is told of other packets is left aside: the probe is known by its
 * addresses and ports, as each translation on its way makes them.
 *
 * Of a container the probe is sent by sockets that are opened in its namespace and used from here.
 * Of a machine it is a frame that is written to the device that its monitor reads and writes, as if
 * the guest had sent it; nobody listens to the answer then, so it is what the trace shows of it.
 *
 * Used by the agent; uses net/node.h.  Threads: blocks for as long as the timeout and the reading
 * of rules take; enters namespaces with the calling thread and comes back, or the process aborts.
 */
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kern/nft_flow.h"
#include "kern/nft_trace.h"

struct error;
struct net;

enum {
	TRACE_SLOTS = 2, /* traces at a time */
	TRACE_STEPS_MAX = 512,
	TRACE_TIMEOUT_MAX_MS = 5000,
	TRACE_ROUTER_SIZE = 33,
};

/* One of the ports of the instance: its packets may leave by any of them. */
struct trace_port {
	const char *uid, *driver, *uplink; /* the latter two as in a bridge_spec */
};

/* Of a virtual machine: whose port it is, and what the guest knows. */
struct trace_machine {
	const pid_t *pids; /* one of these processes has the port's device open */
	size_t pid_count;
	const char *port_uid, *mac;
	const char *subnet, *gateway; /* of the probe's family; "" or NULL = none */
};

struct trace_spec {
	unsigned int slot; /* below TRACE_SLOTS; nobody else uses it now */
	const struct trace_port *ports;
	size_t port_count;
	int netns_fd;                        /* of a container */
	const struct trace_machine *machine; /* or of a machine, else NULL */
	const char *protocol;                /* "tcp", "udp", "icmp" */
	const char *source, *destination;    /* of one family */
	uint16_t port;                       /* not of icmp */
	uint32_t timeout_ms;
	int cancel_fd; /* readable: nobody wants it any more */
};

enum trace_answer {
	TRACE_ANSWER_NONE,
	TRACE_ANSWER_CONNECTED,
	TRACE_ANSWER_REFUSED,     /* also: nobody listens at that UDP port */
	TRACE_ANSWER_REPLY,       /* of UDP, or an echo */
	TRACE_ANSWER_UNREACHABLE, /* said by ICMP, or by the instance's own routes */
};

struct trace_step {
	char router[TRACE_ROUTER_SIZE]; /* "" = the node */
	struct nft_trace_event event;   /* with the packet as it was then */
	const char *hook;               /* constant */
	char iif[IF_NAMESIZE], oif[IF_NAMESIZE];
	struct nft_flow_ends ends;
	char *expression, *comment; /* NULL = not known */
};

struct trace_result {
	bool sent;
	enum trace_answer answer;
	struct route_ip answer_from; /* `family` 0: nobody else than who was asked */
	struct trace_step *steps;
	size_t step_count;
	bool truncated;
	int dropped_by; /* a step, or -1 */
	/* The answer was sent and dropped on its way back: the last step tells where. */
	bool answer_dropped;
	/* Where it was seen last when it was let go; `family` of the source 0: nowhere. */
	char left_router[TRACE_ROUTER_SIZE], left_by[IF_NAMESIZE]; /* "" = to the place itself */
	struct nft_flow_ends left;
	/* The first connection on its way that was translated, or the first; likewise. */
	char tracked_router[TRACE_ROUTER_SIZE];
	struct nft_flow_ends tracked, tracked_reply;
};

/* -EINVAL and a line for the user; -EOPNOTSUPP: the kernel, or the network's driver, cannot. */
int trace_run(struct net *net, const struct trace_spec *spec, struct trace_result *ret,
	      struct error *err);

void trace_result_done(struct trace_result *result);
static inline void trace_result_done_autop(struct trace_result *result)
{
	trace_result_done(result);
}
