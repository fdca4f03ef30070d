#pragma once
/*
 * net/group.h - a security group: what its members let in, and what they let out.
 *
 * Two chains of the table `inet PREFIX`, one rule or two (IPv4, IPv6) for each of the group's; the
 * rule's comment is its number, from 1.  They are replaced in one transaction; connections that
 * are established go on.  What no rule names is dropped.  Members are ports: net/guard.h.
 *
 * Used by the agent; uses net/node.h.  Threads and crash: see there.  After a crash the group is in
 * force as it was, and group_ensure() writes it anew.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;
struct net;

enum { GROUP_RULES_MAX = 256 }; /* each way */

struct group_rule {
	const char *protocol;     /* "tcp", "udp", "icmp" (of both families) or "any" */
	uint16_t port, last_port; /* tcp and udp; 0 = all */
	const char *cidr;         /* who, at the other end: "10.0.0.0/8"; NULL or "" = anybody */
	const char *group;        /* or the members of this group (its uid) */
};

struct group_spec {
	const char *uid; /* 1..32 hex digits */
	const struct group_rule *ingress, *egress;
	size_t ingress_count, egress_count;
	bool egress_all; /* its members may reach everything; no `egress` then */
};

/* Makes the group what `spec` says. */
int group_ensure(struct net *net, const struct group_spec *spec, struct error *err);

/* -EBUSY: a port is in it.  A missing one is fine. */
int group_remove(struct net *net, const char *uid, struct error *err);

/* Only checks: 0 or -EINVAL and a line for the user. */
int group_check(const struct group_spec *spec, struct error *err);
