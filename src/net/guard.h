#pragma once
/*
 * net/guard.h - what a port may send, and who may reach it.
 *
 * A guarded port sends with its own MAC and addresses only (and IPv6's link-local one that is made
 * from the MAC); no answers of a DHCP server, no router advertisements, no tags of VLANs, no
 * spanning tree, nothing that is neither ARP nor IP.  It is given frames for its own addresses, ARP
 * and neighbour discovery.  A port with groups (net/group.h) is reached, and reaches others, as
 * those say; one without is open.  Broadcasts and multicasts reach a port without groups, or when
 * one of its groups lets every protocol in.
 *
 * Everything is elements of fixed sets (net/rules_internal.h) that carry the port's uid, so the
 * 1,000th port costs what the 10th did.  Elements name interfaces, so a port can be guarded before
 * its interface is there, and should be.
 *
 * Used by port.c and tap.c; observe.h finds garbage.  Uses net/node.h.  Threads and crash: see
 * there.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;
struct net;

enum { GUARD_GROUPS_MAX = 16 };

struct guard_spec {
	const char *port_uid;      /* 1..32 hex digits */
	const char *interface;     /* its end outside: PREFIXv... */
	const char *bridge;        /* that it is on */
	const uint8_t *mac;        /* six bytes */
	const char *ipv4, *ipv6;   /* without a length; NULL or "" = none */
	const char *const *groups; /* uids */
	size_t group_count;
	bool spoofing; /* it may send and receive whatever it likes; its groups still count */
};

/*
 * Makes the port's guard what `spec` says: one transaction.  -EADDRINUSE: another port has one of
 * its addresses.  -ENOENT: a group is not there (group_ensure()).  -EOPNOTSUPP: the kernel lacks
 * what it takes; the message says what.
 */
int guard_set_port(struct net *net, const struct guard_spec *spec, struct error *err);

/* The port is gone.  Missing parts are fine. */
int guard_remove_port(struct net *net, const char *port_uid, struct error *err);
