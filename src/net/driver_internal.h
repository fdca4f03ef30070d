#pragma once
/*
 * net/driver_internal.h - networks whose segment is not a bridge of ours.
 *
 *	macvlan		each port is a macvlan on the uplink, born in the instance's namespace; a
 *			machine's is a macvtap `PREFIXv` + uid in the node's
 *	physical	a veth or tap as ever, on a bridge of the node that is somebody else's: we
 *add and remove our port and change nothing of the bridge ovs		a veth or tap as ever, on a
 *bridge of Open vSwitch (ovs_internal.h)
 *
 * The node has no address there and no rules but the guard of what a physical one's ports send; of
 * a network itself nothing is in the kernel, but for a bridge of Open vSwitch that is ours.
 *
 * Used by network.c, port.c, tap.c and observe.c.  Those that may ask Open vSwitch, which may take
 * seconds, are called without the lock of struct net and say so.  Crash: ensure again.
 */
#include <stdint.h>

#include "kern/link.h"

struct bridge_spec;
struct bridge_status;
struct error;
struct net;
struct net_observed;
struct network_plan;
struct port_plan;
struct port_spec;
struct tap_facts;

enum driver_kind { DRIVER_BRIDGE, DRIVER_MACVLAN, DRIVER_PHYSICAL, DRIVER_OVS };

/* The checked members of a bridge_spec. */
struct driver_plan {
	enum driver_kind kind;
	uint32_t mode;      /* MACVLAN_MODE_... */
	const char *uplink; /* borrowed; "" = none */
};

int driver_plan(const struct bridge_spec *spec, struct driver_plan *ret, struct error *err);

/* network_ensure() for all but bridges of ours; `plan` receives the MTU.  Takes the lock. */
int driver_ensure(struct net *net, const struct bridge_spec *spec, struct network_plan *plan,
		  struct bridge_status *ret, struct error *err);

/* Of a network of any kind, without the lock. */
int driver_remove(struct net *net, const char *network_uid, struct error *err);

/*
 * The interface behind a plan's `uplink`, when it is there, up and of the right kind.  With the
 * lock.
 */
int driver_find_uplink(struct net *net, const struct driver_plan *plan, struct link *ret,
		       struct error *err);

/* Puts the interface of a port onto its bridge of Open vSwitch.  Without the lock. */
int driver_join_ovs(struct net *net, const struct port_spec *spec, const struct driver_plan *plan,
		    struct error *err);

/* What a port of any kind leaves outside of its interface.  Without the lock. */
int driver_detach(struct net *net, const char *network_uid, const char *port_uid,
		  struct error *err);

/* ---- macvlan.c; without the lock */

/* The interface is there, as `interface`, down perhaps.  Visits the instance's namespace. */
int macvlan_ensure(struct net *net, const struct port_spec *spec, const struct port_plan *plan,
		   int netns_fd, struct error *err);

/* tap_open() and tap_attach() of such a network. */
int macvlan_open_tap(struct net *net, const struct port_spec *spec, const struct port_plan *plan,
		     int *ret_fd, struct error *err);
int macvlan_attach_tap(struct net *net, const struct port_spec *spec, const struct port_plan *plan,
		       struct error *err);
