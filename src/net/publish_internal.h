#pragma once
/*
 * net/publish_internal.h - whether a port of the host is free.  Used by publish.c and balance.c.
 */
#include <stdint.h>

struct route_ip;

/*
 * Whether a process of the host has the port: it would be cut off from the outside without a word.
 * Old TCP connections in their last minute (TIME_WAIT) do not count.  -EADDRINUSE, -EADDRNOTAVAIL:
 * it is no address of this host.
 */
int publish_try_bind(const struct route_ip *ip, uint8_t protocol, uint16_t port);
