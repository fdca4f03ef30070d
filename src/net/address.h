#pragma once
/*
 * net/address.h - IP addresses and subnets as text and as bytes.
 *
 * Used inside net/; pure functions.  Text comes from the store, so it is checked as a stranger's.
 */
#include <stdbool.h>

#include "kern/route.h"

enum { ADDRESS_TEXT_SIZE = 64 };

/* "10.90.0.5" or "fd00::5" (no zone), prefix = all bits.  0 or -EINVAL. */
int address_parse(const char *text, struct route_ip *ret);

/* "10.90.0.0/24" with no host bits set.  0 or -EINVAL. */
int address_parse_subnet(const char *text, struct route_ip *ret);

/* Whether instances can live in it: not loopback, link-local, multicast, unspecified or too small.
 */
bool address_usable_subnet(const struct route_ip *subnet);

bool address_equal(const struct route_ip *a, const struct route_ip *b); /* prefixes too */
bool address_inside(const struct route_ip *subnet, const struct route_ip *ip);
bool address_overlap(const struct route_ip *a, const struct route_ip *b);

/* Inside `subnet` and neither its own address nor (IPv4) its broadcast address. */
bool address_is_host(const struct route_ip *subnet, const struct route_ip *ip);

/* The first host of a subnet, with the subnet's prefix. */
struct route_ip address_first(const struct route_ip *subnet);

/* The subnet that an address with a prefix length is of. */
struct route_ip address_subnet(const struct route_ip *ip);

/* The last address of a subnet, whether an instance may have it or not. */
struct route_ip address_last(const struct route_ip *subnet);

/* Without the prefix length. */
const char *address_text(const struct route_ip *ip, char text[ADDRESS_TEXT_SIZE]);
