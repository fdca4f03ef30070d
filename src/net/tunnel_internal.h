#pragma once
/*
 * net/tunnel_internal.h - a network that goes on at other nodes: one VXLAN device `PREFIXx` + uid
 * on its bridge.
 *
 * Frames for everybody and for hosts not yet heard of are copied to each remote (head-end
 * replication); who lives where is learnt from what arrives, and only remotes are heard
 * (rules_text.c).  The device is ours by its name and alias, as a bridge is.
 *
 * Used by network.c, with the lock of struct net held.  Crash: ensure again finds and repairs.
 */
#include "kern/link_vxlan.h"
#include "net/network.h"

struct net;

enum { TUNNEL_REMOTES_MAX = 64, TUNNEL_PORT_DEFAULT = 4789 };

/* A checked tunnel_spec; vxlan.vni 0 = none. */
struct tunnel_plan {
	struct link_vxlan vxlan;
	struct route_ip remotes[TUNNEL_REMOTES_MAX];
	size_t remote_count;
};

int tunnel_plan(const struct tunnel_spec *spec, struct tunnel_plan *ret, struct error *err);

/* The largest frame's content that the ways to all remotes allow.  An error names the remote
 * without a way. */
int tunnel_read_mtu(struct net *net, const struct tunnel_plan *plan, uint32_t *ret,
		    struct error *err);

/* Makes the device what `plan` says, or removes it when the plan is none. */
int tunnel_ensure(struct net *net, const char *network_uid, int bridge_index,
		  const struct tunnel_plan *plan, uint32_t mtu, struct error *err);
