#include "net/rules_text_internal.h"

#include <string.h>

#include "base/strbuf.h"

const struct rules_shape rules_shapes[RULES_SET_COUNT] = {
	[RULES_BRIDGES] = { .name = "bridges", .type = "type ifname", .key_size = 16 },
	[RULES_NAT_BRIDGES] = { .name = "nat_bridges", .type = "type ifname", .key_size = 16 },
	[RULES_ISOLATED] = { .name = "isolated", .type = "type ifname", .key_size = 16 },
	[RULES_SAME] = { .name = "same_bridge", .type = "type ifname . ifname", .key_size = 32 },
	[RULES_GATEWAYS4] = { .name = "gateways4", .type = "type ipv4_addr", .key_size = 4 },
	[RULES_OWN_GATEWAYS4] = { .name = "own_gateways4",
				  .type = "type ifname . ipv4_addr",
				  .key_size = 20 },
	[RULES_GATEWAYS6] = { .name = "gateways6",
			      .type = "type ipv6_addr",
			      .key_size = 16,
			      .ipv6 = true },
	[RULES_OWN_GATEWAYS6] = { .name = "own_gateways6",
				  .type = "type ifname . ipv6_addr",
				  .key_size = 32,
				  .ipv6 = true },
	[RULES_SUBNETS4] = { .name = "subnets4",
			     .type = "type ifname . ipv4_addr",
			     .key_size = 20,
			     .value_size = 4,
			     .interval = true },
	[RULES_SUBNETS6] = { .name = "subnets6",
			     .type = "type ifname . ipv6_addr",
			     .key_size = 32,
			     .value_size = 16,
			     .interval = true,
			     .ipv6 = true },
	[RULES_TUNNELS] = { .name = "tunnels",
			    .type = "typeof udp dport . @th,96,24",
			    .key_size = 8 },
	[RULES_TUNNEL_PEERS4] = { .name = "tunnel_peers4",
				  .type = "typeof udp dport . @th,96,24 . ip saddr",
				  .key_size = 12 },
	[RULES_TUNNEL_PEERS6] = { .name = "tunnel_peers6",
				  .type = "typeof udp dport . @th,96,24 . ip6 saddr",
				  .key_size = 24,
				  .ipv6 = true },
	[RULES_PUBLISH4] = { .name = "publish4",
			     .type = "type ipv4_addr . inet_proto . inet_service : "
				     "ipv4_addr . inet_service",
			     .key_size = 12,
			     .value_size = 8 },
	[RULES_PUBLISH4_ANY] = { .name = "publish4_any",
				 .type = "type inet_proto . inet_service : ipv4_addr . "
					 "inet_service",
				 .key_size = 8,
				 .value_size = 8 },
	[RULES_PUBLISH6] = { .name = "publish6",
			     .type = "type ipv6_addr . inet_proto . inet_service : "
				     "ipv6_addr . inet_service",
			     .key_size = 24,
			     .value_size = 20,
			     .ipv6 = true },
	[RULES_PUBLISH6_ANY] = { .name = "publish6_any",
				 .type = "type inet_proto . inet_service : ipv6_addr . "
					 "inet_service",
				 .key_size = 8,
				 .value_size = 20,
				 .ipv6 = true },
};

/*
 * A line is printed when the kernel has what it needs.  Why the rules are as they are:
 *
 * publish	The exact address first, then any.  It is reached for addresses of this host only
 *(fib), by packets from the wire and from instances (prerouting) and by our own (output).
 *		127.0.0.0/8 is left out in prerouting: from a wire such packets are forged, and
 *being rewritten before the routing decision they would escape its check.  ::1 is left out because
 *the kernel lets no packet from ::1 onto a wire, link-local because it needs one. postrouting What
 *goes back out where it came from (an instance that uses a published port of its own network) must
 *return through us, hence gets our address.  So must what comes from 127.0.0.1.  Then the way out
 *of NAT networks. guard	Nothing from an instance may claim to be 127.0.0.0/8, for we have
 *route_localnet on the bridge, nor an address that does not live behind its bridge. input	A
 *gateway address serves its own bridge only: not a neighbour's instances, and not a host on the
 *wire that found out how to route to it.
 *		Isolated bridges come first: an address there may be somebody else's elsewhere, so
 *an answer need not be one.  What is in a tunnel must come from one of its peers: a VNI is no
 *secret. forward	Answers and published ports pass; networks do not reach each other; NAT
 *networks are not reached from outside.  With bridge-nf-call-iptables frames inside a bridge come
 *here too.
 */
struct line {
	bool ipv6;
	const char *text;
};

static const struct line lines[] = {
	{ false, "chain publish {" },
	{ true, "	ip6 daddr { ::1, fe80::/10 } return" },
	{ false, "	dnat ip to ip daddr . meta l4proto . th dport map @publish4" },
	{ false, "	dnat ip to meta l4proto . th dport map @publish4_any" },
	{ true, "	dnat ip6 to ip6 daddr . meta l4proto . th dport map @publish6" },
	{ true, "	dnat ip6 to meta l4proto . th dport map @publish6_any" },
	{ false, "}" },
	{ false, "chain prerouting {" },
	{ false, "	type nat hook prerouting priority dstnat; policy accept;" },
	{ false, "	ip daddr 127.0.0.0/8 return" },
	{ false, "	fib daddr type local jump publish" },
	{ false, "}" },
	{ false, "chain output {" },
	{ false, "	type nat hook output priority -100; policy accept;" },
	{ false, "	fib daddr type local jump publish" },
	{ false, "}" },
	{ false, "chain postrouting {" },
	{ false, "	type nat hook postrouting priority srcnat; policy accept;" },
	{ false, "	oifname @bridges ip saddr 127.0.0.0/8 masquerade" },
	{ false, "	ct status dnat oifname . ip saddr @subnets4 masquerade" },
	{ true, "	ct status dnat oifname . ip6 saddr @subnets6 masquerade" },
	{ false, "	iifname @nat_bridges oifname != @bridges masquerade" },
	{ false, "}" },
	{ false, "chain guard {" },
	{ false, "	type filter hook prerouting priority mangle; policy accept;" },
	{ false, "	iifname @bridges ip daddr 127.0.0.0/8 drop" },
	{ false, "	iifname @bridges ip saddr 127.0.0.0/8 drop" },
	{ false, "	iifname @bridges ct state new fib saddr . iif oif missing drop" },
	{ false, "}" },
	{ false, "chain input {" },
	{ false, "	type filter hook input priority filter; policy accept;" },
	{ false, "	iifname @isolated drop" },
	{ false, "	meta nfproto ipv4 udp dport . @th,96,24 @tunnels "
		 "udp dport . @th,96,24 . ip saddr != @tunnel_peers4 drop" },
	{ true, "	meta nfproto ipv6 udp dport . @th,96,24 @tunnels "
		"udp dport . @th,96,24 . ip6 saddr != @tunnel_peers6 drop" },
	{ false, "	ct state established,related accept" },
	{ false, "	iifname \"lo\" accept" },
	{ false, "	iifname . ip daddr @own_gateways4 accept" },
	{ false, "	ip daddr @gateways4 drop" },
	{ true, "	iifname . ip6 daddr @own_gateways6 accept" },
	{ true, "	ip6 daddr @gateways6 drop" },
	{ false, "}" },
	{ false, "chain forward {" },
	{ false, "	type filter hook forward priority filter; policy accept;" },
	{ false, "	ct state established,related accept" },
	{ false, "	iifname @isolated oifname != @isolated drop" },
	{ false, "	ct status dnat accept" },
	{ false, "	iifname . oifname @same_bridge accept" },
	{ false,
	  "	iifname @bridges oifname @bridges reject with icmpx type admin-prohibited" },
	{ false, "	oifname @nat_bridges drop" },
	{ false, "}" },
};

char *rules_text(const char *prefix, bool ipv6)
{
	AUTO(strbuf_done) struct strbuf text = {};

	strbuf_printf(&text, "add table inet %s\nflush table inet %s\ntable inet %s {\n", prefix,
		      prefix, prefix);
	for (int i = 0; i < RULES_SET_COUNT; i++) {
		const struct rules_shape *shape = &rules_shapes[i];

		if (ipv6 || !shape->ipv6)
			strbuf_printf(&text, "%s %s { %s; %s}\n",
				      strchr(shape->type, ':') ? "map" : "set", shape->name,
				      shape->type, shape->interval ? "flags interval; " : "");
	}
	for (size_t i = 0; i < ARRAY_COUNT(lines); i++)
		if (ipv6 || !lines[i].ipv6)
			strbuf_printf(&text, "%s\n", lines[i].text);
	strbuf_puts(&text, "}\n");
	return strbuf_take(&text);
}
