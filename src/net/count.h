#pragma once
/*
 * net/count.h - what ports have carried: bytes and packets, each way, inside of their network and
 * to the outside told apart.
 *
 * Two small programs for each network (kern/count_bpf.h) see each packet on the node's end of its
 * ports: what comes from or goes to an address of the network's subnets is inside, and so is all
 * that is not IP.  They cost some 100 ns a packet; counting by rules would cost a look into a set
 * of the bridge family for each.  Frames count with their Ethernet header, as an interface counts
 * them, and before a limit drops them.
 *
 * Counts belong to the network and not to the port's interface: they are there until count_forget()
 * or until the node is rebooted, whoever dies meanwhile.  Who keeps sums compares serials: another
 * one says that the counts began anew, from 0.
 *
 * Used by the agent; uses net/node.h.  Threads and crash: see there.
 */
#include <stdbool.h>
#include <stdint.h>

struct error;
struct net;

struct count_sum {
	uint64_t bytes, packets;
};

struct count_way {
	struct count_sum inside, outside;
};

/* Seen from the instance. */
struct count {
	uint64_t serial;
	struct count_way in, out;
};

/*
 * Hands the counts of all ports of a network to `fn`, in no order; a port may come twice after a
 * crash, with the same serial: the greater counts are true.  A network without any is fine.
 */
typedef void (*count_fn)(const char *port_uid, const struct count *count, void *data);
int count_each(struct net *net, const char *network_uid, count_fn fn, void *data,
	       struct error *err);

/* Whether a port was attached without counting, because this kernel cannot. */
bool count_refused(struct net *net);

/* After the port has gone and its counts were put down. */
int count_forget(struct net *net, const char *network_uid, const char *port_uid, struct error *err);
