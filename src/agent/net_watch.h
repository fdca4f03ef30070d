#pragma once
/*
 * agent/net_watch.h - notices that somebody else has changed or flushed our nft table, and has it
 * put back, or routes that a routing daemon is to announce; and that an interface has changed which
 * a network depends on.
 *
 * `systemctl restart nftables` begins with `flush ruleset`: without this all published ports would
 * be gone until the next launch.  Used by agent.c; uses net/node.h.  Belongs to the loop's thread;
 * the repair itself runs on a worker.  No state: at start net_new() looks by itself.
 */
struct agent;
struct error;
struct net_watch;

int net_watch_new(struct agent *agent, struct net_watch **ret, struct error *err);

/* After the pools: a repair may be on its way. */
void net_watch_free(struct net_watch *watch);
