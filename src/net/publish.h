#pragma once
/*
 * net/publish.h - published ports: a port of the host leads to a port of an instance.
 *
 * Each is one element of a map in our nft table, so the 5,000th costs as much as the first.  It is
 * reachable from outside, from the host by all its addresses and 127.0.0.1, from instances of any
 * network, and from the instance itself.  The source address of callers from outside is kept.
 * IPv6's ::1 is not translated (the kernel routes no packet from ::1 to a wire): a client of
 * "localhost" is refused there at once and falls back to 127.0.0.1.
 *
 * Used by the agent; uses net/node.h.  Threads and crash: see there.  Elements carry the instance's
 * uid as comment.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct error;
struct net;

enum { PUBLISH_COUNT_MAX = 16384 };

struct publish_spec {
	const char *host_ip;  /* "" or NULL = all addresses, IPv4 and IPv6; else one of either */
	uint16_t host_port;   /* 1..65535 */
	uint16_t port;        /* of the instance, 1..65535 */
	const char *protocol; /* "tcp" or "udp" */
};

/*
 * Makes `specs` the published ports of the instance with these addresses (NULL or "" = none): adds
 * what is missing, replaces what is different, removes what it published beyond that; all or
 * nothing. -EADDRINUSE when another instance has published a port of them, or a process of the host
 * listens on it: the message names the port.
 */
int publish_ensure(struct net *net, const char *instance_uid, const char *ipv4, const char *ipv6,
		   const struct publish_spec *specs, size_t count, struct error *err);

/* Removes all published ports of the instance, and forgets its UDP flows; none is fine. */
int publish_remove(struct net *net, const char *instance_uid, struct error *err);

/* Only checks: 0 or -EINVAL and a line for the user. */
int publish_check(const struct publish_spec *spec, struct error *err);
