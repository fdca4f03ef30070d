#pragma once
/*
 * net/network_internal.h - a checked network_spec in binary form, and parts that port and gc share.
 *
 * Threads: under the lock of struct net where one is taken.
 */
#include "kern/route.h"
#include "net/driver_internal.h"
#include "net/network.h"
#include "net/tunnel_internal.h"

/* `family` 0 where the network has no such subnet.  Gateways carry the subnet's prefix length. */
struct network_plan {
	struct route_ip subnet4, gateway4, subnet6, gateway6;
	uint32_t mtu;               /* 0 = what a tunnel leaves, 1500 at most */
	const char *domain;         /* borrowed from the spec, as the next two */
	const char *project, *zone; /* NULL: ports have no full names */
	bool isolated, dhcp;
	bool advertise; /* gateways have the mark then */
	struct tunnel_plan tunnel;
	struct driver_plan driver;
};

int network_plan(const struct bridge_spec *spec, struct network_plan *ret, struct error *err);

/* network_remove() for those who hold the lock. */
int network_remove_locked(struct net *net, const char *uid, struct error *err);
