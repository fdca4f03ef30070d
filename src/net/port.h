#pragma once
/*
 * net/port.h - an instance's attachment to a network: a veth pair, addresses, routes and a name.
 *
 * The pair is made by one netlink message with one end, eth0 say, born in the container's network
 * namespace and the other, `PREFIXv` + the port's uid, born on the bridge.  Inside: addresses
 * (no duplicate address detection: usable at once), loopback up, and when the port is the one that
 * leads out, default routes to the gateways.  The namespace's end removes the pair; nobody waits
 * for that.
 *
 * Used by the agent; uses net/node.h.  Threads: port_attach() enters the container's namespace with
 * the calling thread and comes back; when the way back fails the process aborts, for a thread in a
 * stranger's namespace must do nothing more.  Crash: attach again finds and repairs.
 */
#include <stdbool.h>
#include <stdint.h>

#include "net/limit.h"
#include "net/network.h"

enum { PORT_NAME_MAX = 63 };

struct port_spec {
	const struct bridge_spec *network; /* ensured before */
	const char *uid;                   /* of the port, 1..32 hex digits */
	const char *interface;             /* its name inside; NULL = "eth0" */
	const char *name;                  /* a host name label; the DNS name of the instance */
	const char *mac;                   /* "02:..", unicast; NULL or "" = made from the uid */
	const char *ipv4; /* "10.90.0.5" inside the network's subnet; "" or NULL = none */
	const char *ipv6;
	bool leads_out; /* the network's gateways, if it has some, are the instance's */
	/* Of an isolated network: the router that joins it, for ports that lead out. */
	const char *router4, *router6;
	char *const *groups; /* uids of its security groups */
	bool spoofing;       /* may send with any address */
	struct limit_spec limits;
};

/*
 * Connects the namespace behind `netns_fd` (borrowed; say, /proc/PID/ns/net) and publishes the
 * name. A port whose earlier namespace is still being taken apart can be attached again at once.
 */
int port_attach(struct net *net, const struct port_spec *spec, int netns_fd, struct error *err);

/*
 * The instance has ended: its name is gone from that network.  The veth goes with its namespace;
 * call this when the last process in it has died or is about to.  Missing parts are fine.
 * Published ports are publish_remove()'s, and what it has carried is count_forget()'s.
 */
int port_detach(struct net *net, const char *network_uid, const char *port_uid, struct error *err);

/* The same for an instance that goes on: its interface, veth or tap, goes too. */
int port_remove(struct net *net, const char *network_uid, const char *port_uid, struct error *err);

/*
 * Of a container, after that: a macvlan has no end outside, so it is removed inside, by its name or
 * its MAC.  None is fine.
 */
int port_remove_inside(struct net *net, const char *interface, const char *mac, int netns_fd,
		       struct error *err);

/* As the instance sees it: `rx` is what it has received. */
struct port_counters {
	uint64_t rx_bytes, rx_packets, rx_dropped;
	uint64_t tx_bytes, tx_packets, tx_dropped;
};

/* Since the present attachment; -ENODEV when there is none. */
int port_read_counters(struct net *net, const char *port_uid, struct port_counters *ret);

/* Only checks: 0 or -EINVAL and a line for the user. */
int port_check(const struct port_spec *spec, struct error *err);
