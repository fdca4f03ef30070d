#pragma once
/*
 * net/node.h - the network side of one node: its own nft table and the sockets that stay open.
 *
 *	net_new(&(struct net_options){ .prefix = "brume", .run_dir = "/run/brume" }, &net, err);
 *
 * Used by the agent; uses kern/ (rtnetlink, nfnetlink) and files below RUN/networks.  Everything is
 * done in the network namespace of the calling process and only to objects that carry our prefix;
 * tables, bridges and rules of others are never touched.
 *
 * Threads: one struct net per node.  Every function of net/ that takes one may be called from any
 * thread at any time: an internal lock makes each call one step.  The calls block for microseconds
 * to a few milliseconds, so they belong on worker threads.
 *
 * Crash: no state is kept in memory that cannot be thrown away; what exists is in the kernel and in
 * the run folder.  Every "ensure", "attach" and "add" is idempotent: it looks, and makes good what
 *is missing or different.  After a crash the agent calls them again and ends with net_gc().
 */
#include <stdbool.h>

#include "base/cleanup.h"

struct error;
struct net;

struct net_options {
	const char *prefix;     /* 1..8 of [a-z0-9]: names of bridges, veths and the nft table */
	const char *run_dir;    /* absolute; networks/UID/ is made below it */
	const char *ovs_socket; /* of Open vSwitch's database; NULL = where it usually is */
};

/*
 * Opens the sockets, turns on IP forwarding (IPv4; IPv6 when the kernel has it) and creates the
 * table `inet PREFIX` when it is missing; elements of an earlier life stay.  Says clearly when the
 * kernel lacks what is needed.
 */
int net_new(const struct net_options *options, struct net **ret, struct error *err);

/* Closes the sockets; networks, ports and rules stay. */
void net_free(struct net *net);
DEFINE_AUTO(struct net *, net_free)

/*
 * Looks whether somebody else has changed or flushed our table and puts its rules and elements
 * back; *ret_damaged (may be NULL) says so.  Costs one small request when nobody has touched
 * nftables since. network_ensure(), publish_ensure() and publish_remove() do this themselves.
 */
int net_repair(struct net *net, bool *ret_damaged, struct error *err);

/*
 * An fd, owned by `net`, that becomes readable when anybody changes nftables (a `flush ruleset`,
 * say). The event loop then calls net_watch_read(), which never blocks, and when that returns true
 * has a worker call net_repair().
 */
int net_watch_fd(const struct net *net);
bool net_watch_read(struct net *net);

/*
 * Whether the host's own firewall drops forwarded packets by policy, so that instances may not
 * reach the outside nor published ports be reached whatever our rules say.  Returns 1 and the name
 * of the chain (the caller frees), 0 when none is seen.  To be told to people, not acted upon.
 */
int net_find_obstacle(struct net *net, char **ret, struct error *err);

/* Removes everything with our prefix: tables, routers, bridges, veths, RUN/networks and
 * RUN/routers. For `--stop`. */
int net_destroy(struct net *net, struct error *err);
