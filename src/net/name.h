#pragma once
/*
 * net/name.h - the names of what a node makes in the kernel, and the check of names from outside.
 *
 * Used inside net/; pure functions.  Bridges, veths and tunnels carry the node's prefix and as much
 * of the uid as 15 characters allow; the whole uid stands in the interface's alias.  A GRE tunnel's
 * has a hash of uid and remote instead, a router's port one of both uids.  Because these are
 * hexadecimal and '-', 'n', 'q', 'r', 'v', 'x' and 'y' are not, names of nodes with different
 * prefixes never meet.
 */
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

/* With a label of 63 in front a domain is still a name: 253 characters. */
enum { NAME_PREFIX_MAX = 8, NAME_UID_MAX = 32, NAME_DOMAIN_MAX = 189 };

bool name_is_prefix(const char *text);    /* 1..8 of [a-z0-9] */
bool name_is_uid(const char *text);       /* 1..32 lower-case hex digits */
bool name_is_interface(const char *text); /* 1..15 letters and digits, a letter first */
bool name_is_label(const char *text);  /* a host name: 1..63 of [A-Za-z0-9-], no '-' at the ends */
bool name_is_domain(const char *text); /* labels with dots between */

void name_bridge(const char *prefix, const char *uid, char ret[IF_NAMESIZE]);
void name_veth(const char *prefix, const char *uid, char ret[IF_NAMESIZE]);
void name_tunnel(const char *prefix, const char *uid, char ret[IF_NAMESIZE]);
void name_gre(const char *prefix, const char *uid, const char *remote, char ret[IF_NAMESIZE]);

/* Where what a port sends waits when it is limited. */
void name_queue(const char *prefix, const char *uid, char ret[IF_NAMESIZE]);

/* A router's port of a network's bridge (its name says nothing to people: both uids are in it), and
 * its end of the link to the node. */
void name_router_port(const char *prefix, const char *router_uid, const char *network_uid,
		      char ret[IF_NAMESIZE]);
void name_router_uplink(const char *prefix, const char *router_uid, char ret[IF_NAMESIZE]);

/* The part of the uid in a name, borrowed; NULL when it is not one of ours. */
const char *name_of_bridge(const char *prefix, const char *name);
const char *name_of_veth(const char *prefix, const char *name);
const char *name_of_tunnel(const char *prefix, const char *name);
const char *name_of_gre(const char *prefix, const char *name);
const char *name_of_queue(const char *prefix, const char *name);

/* One of the two kinds that routers have: whose it is, its alias says. */
bool name_is_of_router(const char *prefix, const char *name);

/* "02:00:5e:10:00:01", unicast and not zero.  0 or -EINVAL. */
int name_parse_mac(const char *text, uint8_t ret[6]);

/* A locally administered address that depends on the uid only. */
void name_mac(const char *uid, uint8_t ret[6]);

/* The same of a router's port. */
void name_router_mac(const char *router_uid, const char *network_uid, uint8_t ret[6]);
