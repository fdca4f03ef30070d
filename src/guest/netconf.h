#pragma once
/*
 * guest/netconf.h - the network interfaces of a virtual machine: names, addresses, routes, MTU.
 *
 * Over rtnetlink by hand: brume-init is linked statically, and Debian has no static libmnl, which
 * kern/link.h and kern/route.h are built on.  Blocks: called at boot, and by a child when the host
 * has changed what there is.  An interface that was set up has the alias "brume": nobody touches it
 * again, whatever the instance has made of it, but for its default route.
 */
#include <stddef.h>
#include <stdint.h>

struct error;
struct guest_config;

/* "10.90.0.2/24" or "fd00::2" -> family, 4 or 16 bytes, prefix length; -EINVAL. */
struct netconf_address {
	int family;
	uint8_t bytes[16];
	uint8_t prefix;
};
int netconf_parse_address(const char *text, struct netconf_address *ret);

/* lo up; each interface that the configuration names by its MAC. */
int netconf_setup(const struct guest_config *config, struct error *err);

/* Those of a machine that runs: one that is not there yet is waited for. */
enum { NETCONF_WAIT_S = 8 };
int netconf_change(const struct guest_config *config, struct error *err);
