#pragma once
/*
 * net/tunnel_internal.h - a network that goes on at other nodes.
 *
 * VXLAN is one device `PREFIXx` + uid on its bridge: frames for everybody and for hosts not yet
 * heard of are copied to each remote (head-end replication); who lives where is learnt from what
 * arrives, and only remotes are heard (rules_text.c).  GRE is one device `PREFIXy` + a hash for
 * each remote: the bridge copies and learns, but passes nothing from one of them to another, for
 * every node is every other's peer; the kernel gives a device the packets of its remote and key,
 * and drops those of others.  Devices are ours by their names and aliases, as a bridge is.
 *
 * Used by network.c, with the lock of struct net held.  Crash: ensure again finds and repairs.
 */
#include "kern/link_gre.h"
#include "kern/link_vxlan.h"
#include "net/network.h"

struct net;

enum { TUNNEL_REMOTES_MAX = 64, TUNNEL_PORT_DEFAULT = 4789 };

/* A checked tunnel_spec; vxlan.vni and gre_key 0 = none. */
struct tunnel_plan {
	struct link_vxlan vxlan;
	uint32_t gre_key;
	struct route_ip gre_local;
	struct route_ip remotes[TUNNEL_REMOTES_MAX];
	size_t remote_count;
};

static inline bool tunnel_is_there(const struct tunnel_plan *plan)
{
	return plan->vxlan.vni || plan->gre_key;
}

int tunnel_plan(const struct tunnel_spec *spec, struct tunnel_plan *ret, struct error *err);

/* The largest frame's content that the ways to all remotes allow.  An error names the remote
 * without a way. */
int tunnel_read_mtu(struct net *net, const struct tunnel_plan *plan, uint32_t *ret,
		    struct error *err);

/* Makes the devices what `plan` says, and removes what it does not. */
int tunnel_ensure(struct net *net, const char *network_uid, int bridge_index,
		  const struct tunnel_plan *plan, uint32_t mtu, struct error *err);

/* The half of it that is about GRE. */
int tunnel_ensure_gre(struct net *net, const char *network_uid, int bridge_index,
		      const struct tunnel_plan *plan, uint32_t mtu, struct error *err);
