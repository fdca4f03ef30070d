#pragma once
/*
 * model/address.h - IPv4 and IPv6 addresses and subnets as values.
 *
 * Used by the models of networks and ports, by control/ to hand addresses out and by net/ to set
 * them.  No state, thread-safe.
 */
#include <stdbool.h>
#include <stdint.h>

struct error;

enum { IP_TEXT_SIZE = 46, SUBNET_TEXT_SIZE = 50, MAC_TEXT_SIZE = 18 };

struct ip {
	uint8_t family;    /* 4, 6, or 0 for none */
	uint8_t bytes[16]; /* network order; 4 of them for IPv4 */
};

struct subnet {
	struct ip base; /* host bits are zero */
	uint8_t prefix;
};

/* "10.0.0.1" or "fd00::1"; 0 or -EINVAL. */
int ip_parse(const char *text, struct ip *ret);
void ip_format(const struct ip *ip, char ret[IP_TEXT_SIZE]);
bool ip_equal(const struct ip *a, const struct ip *b);

/* "10.90.0.0/24"; `family` 4, 6 or 0 for either.  `what` names the place in messages. */
int subnet_parse(const char *text, int family, const char *what, struct subnet *ret,
		 struct error *err);
void subnet_format(const struct subnet *subnet, char ret[SUBNET_TEXT_SIZE]);
bool subnet_contains(const struct subnet *subnet, const struct ip *ip);
bool subnet_overlaps(const struct subnet *a, const struct subnet *b);

/* How many addresses hosts may have: the highest `n` for subnet_nth().  Capped at 2^32 - 1. */
uint64_t subnet_host_count(const struct subnet *subnet);

/* The n-th address (1 = the first host's). */
void subnet_nth(const struct subnet *subnet, uint64_t n, struct ip *ret);

/* The inverse: which n an address is; 0 when it is outside or not a host's. */
uint64_t subnet_index(const struct subnet *subnet, const struct ip *ip);
