#pragma once
/*
 * net/ovs_internal.h - bridges and ports of Open vSwitch, by its database (ovs_db_internal.h).
 *
 * What is ours carries external_ids: `brume-owner` (the node's prefix), `brume-network` and
 * `brume-port` (uids).  They outlive us and the machine, so that what a crash has left is found.
 * Each of these is done when ovs-vswitchd has carried it out.
 *
 * Used by driver.c and observe.c, without the lock of struct net: the daemon may take seconds.
 */
#include "base/strv.h"

struct error;
struct net;

#define OVS_SOCKET "/run/openvswitch/db.sock"

/* A bridge of ours. */
int ovs_ensure_bridge(struct net *net, const char *bridge, const char *network_uid,
		      struct error *err);

/* Removes it; one that is not there, or not ours, is fine, and so is no Open vSwitch. */
int ovs_remove_bridge(struct net *net, const char *bridge, struct error *err);

/* Somebody else's: 0 when it is there. */
int ovs_find_bridge(struct net *net, const char *bridge, struct error *err);

/* `interface` is a port of `bridge`, and no other's. */
int ovs_ensure_port(struct net *net, const char *bridge, const char *interface,
		    const char *network_uid, const char *port_uid, struct error *err);

/* As ovs_remove_bridge(). */
int ovs_remove_port(struct net *net, const char *interface, struct error *err);

/* All that is ours: names, and the uids that they belong to, side by side. */
struct ovs_things {
	char **bridges, **networks; /* networks[i] has bridges[i] */
	char **interfaces, **ports;
};

void ovs_things_done(struct ovs_things *things);
static inline void ovs_things_done_autop(struct ovs_things *things)
{
	ovs_things_done(things);
}

/* None, when there is no Open vSwitch. */
int ovs_list(struct net *net, struct ovs_things *ret, struct error *err);
