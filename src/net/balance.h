#pragma once
/*
 * net/balance.h - load balancers of layer 4: ports that lead to one of several members.
 *
 * All is done by the kernel: a new connection is given to a member by destination translation, and
 * conntrack keeps it there; no packet passes a program.  The rules stand in a table of their own,
 * `inet PREFIX-b`, that is there as long as there are balancers (balance_text_internal.h shows it).
 *
 * A change of members is one transaction and touches no connection that there is.  Without members
 * new connections are refused at once.  What returns through us (a client on the members' network,
 * 127.0.0.1) gets our address, by the rules that published ports have; members see the true address
 * of all others.
 *
 * Used by the agent; uses net/node.h.  Threads: see there; balance_count() and balance_forget()
 * work on sockets of their own and hold no lock.  Crash: the kernel says what is in force
 * (balance_members()); balance_ensure() makes it what is wanted, whatever there was.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/balance_plan.h"

struct error;
struct net;

enum { BALANCE_LISTEN_MAX = 64, BALANCE_MEMBER_MAX = 1000 };

struct balance_listen {
	const char *protocol; /* "tcp" or "udp" */
	const char *address;  /* of the node; NULL or "" = all it has */
	bool vip;             /* at the balancer's own address instead */
	uint16_t port, target_port;
};

struct balance_member {
	const char *ipv4, *ipv6; /* NULL or "" = none */
	uint32_t connections;    /* for least connections */
};

struct balance_spec {
	const char *uid; /* 1..32 hex digits */
	const char *network_uid;
	bool routed;             /* the network is: its own address is reached from outside, too */
	const char *vip4, *vip6; /* its own addresses on the network's bridge; NULL or "" = none */
	enum balance_algorithm algorithm;
	const struct balance_listen *listens;
	size_t listen_count;
	const struct balance_member *members; /* that get new connections */
	size_t member_count;
};

/*
 * Makes the balancer what `spec` says.  -EADDRINUSE: a process of the host listens on a port;
 * -ENODEV: the network's bridge is not there; the message says which.
 */
int balance_ensure(struct net *net, const struct balance_spec *spec, struct error *err);

/* Nothing of it is left; a missing one is fine. */
int balance_remove(struct net *net, const char *uid, struct error *err);

/*
 * Puts addresses of balancers back that somebody has taken off their bridges; *ret_damaged says
 * so.
 */
int balance_repair_vips(struct net *net, bool *ret_damaged, struct error *err);

/* The addresses of the members that get new connections, as a strv; NULL: there are none. */
int balance_members(struct net *net, const char *uid, char ***ret, struct error *err);

/* Only checks: 0 or -EINVAL and a line for the user. */
int balance_check(const struct balance_spec *spec, struct error *err);

/*
 * How many connections each of `spec`'s members has by this balancer: TCP's that live, UDP's flows.
 * Looks through what the kernel tracks, so it costs by all connections of the node.
 */
int balance_count(const struct balance_spec *spec, uint32_t *ret, struct error *err);

/*
 * Forgets the UDP flows to `spec`'s members, who have left: the next packet of each finds one that
 * is there.  By itself a flow that has packets never ends.
 */
int balance_forget(const struct balance_spec *spec, struct error *err);
