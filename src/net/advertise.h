#pragma once
/*
 * net/advertise.h - what the node's routing daemon is to announce to its peers.
 *
 * brume speaks no BGP and no routing daemon's language: it marks routes (kern/route_mark.h), and
 * the daemon redistributes what has the mark (docs/operate/bgp.md).  So whoever dies on either
 * side, nothing is withdrawn, and what starts again finds everything in the kernel.
 *
 * A network that is advertised (struct bridge_spec) has the mark on its gateway addresses, and an
 * anchor for each subnet.  Anchors have no owner in the kernel: what is wanted is remembered here,
 * and what is found beyond that and is no subnet of an interface goes with the next collection of
 * garbage.
 *
 * Used by the agent.  Threads and crash: see net/node.h.
 */
#include <stdbool.h>

struct error;
struct net;

/*
 * Puts back what somebody else took of the anchors; *ret_damaged (may be NULL) says so.  To be
 * called when a descriptor of route_mark_watch() has been readable.
 */
int advertise_repair(struct net *net, bool *ret_damaged, struct error *err);
