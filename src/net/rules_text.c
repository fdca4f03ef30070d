#include "net/rules_text_internal.h"

#include <linux/netfilter.h>
#include <string.h>

#include "base/strbuf.h"

const struct rules_shape rules_shapes[RULES_SET_COUNT] = {
	[RULES_BRIDGES] = { .name = "bridges", .type = "type ifname", .key_size = 16 },
	[RULES_NAT_BRIDGES] = { .name = "nat_bridges", .type = "type ifname", .key_size = 16 },
	[RULES_ISOLATED] = { .name = "isolated", .type = "type ifname", .key_size = 16 },
	[RULES_ZONES] = { .name = "zones",
			  .type = "typeof iifname : ct zone",
			  .key_size = 16,
			  .value_size = 2 },
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
	[RULES_FLOATING4] = { .name = "floating4",
			      .type = "type ifname . ipv4_addr",
			      .key_size = 20 },
	[RULES_FLOATING6] = { .name = "floating6",
			      .type = "type ifname . ipv6_addr",
			      .key_size = 32,
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
	[RULES_PORTS4] = { .name = "ports4",
			   .type = "type ifname . ipv4_addr : mark",
			   .key_size = 20,
			   .value_size = 4 },
	[RULES_PORTS6] = { .name = "ports6",
			   .type = "type ifname . ipv6_addr : mark",
			   .key_size = 32,
			   .value_size = 4,
			   .ipv6 = true },
	[RULES_MEMBERS4] = { .name = "members4",
			     .type = "type mark . ifname . ipv4_addr",
			     .key_size = 24 },
	[RULES_MEMBERS6] = { .name = "members6",
			     .type = "type mark . ifname . ipv6_addr",
			     .key_size = 36,
			     .ipv6 = true },
	[RULES_GUARDED] = { .family = NFPROTO_BRIDGE,
			    .name = "guarded",
			    .type = "type ifname",
			    .key_size = 16 },
	[RULES_OWN_MAC] = { .family = NFPROTO_BRIDGE,
			    .name = "own_mac",
			    .type = "type ifname . ether_addr",
			    .key_size = 24 },
	[RULES_OWN4] = { .family = NFPROTO_BRIDGE,
			 .name = "own4",
			 .type = "type ifname . ether_addr . ipv4_addr",
			 .key_size = 28 },
	[RULES_OWN6] = { .family = NFPROTO_BRIDGE,
			 .name = "own6",
			 .type = "type ifname . ether_addr . ipv6_addr",
			 .key_size = 40,
			 .ipv6 = true },
	[RULES_SELF] = { .family = NFPROTO_BRIDGE,
			 .name = "self",
			 .type = "type ifname . ifname",
			 .key_size = 32 },
	[RULES_COMBINATION] = { .family = NFPROTO_BRIDGE,
				.name = "combination",
				.type = "type ifname : mark",
				.key_size = 16,
				.value_size = 4 },
	[RULES_OPEN] = { .family = NFPROTO_BRIDGE,
			 .name = "open",
			 .type = "type ifname",
			 .key_size = 16 },
};

uint8_t rules_family(const struct rules_shape *shape)
{
	return shape->family ? shape->family : NFPROTO_INET;
}

/* Maps whose elements belong to combinations of groups, not to owners (chains.c). */
static const struct {
	uint8_t family;
	const char *text;
} chain_sets[] = {
	{ NFPROTO_INET, "map ways_in { type mark : verdict; }" },
	{ NFPROTO_INET, "map ways_out { type mark : verdict; }" },
	{ NFPROTO_BRIDGE, "set loud { type mark; }" },
};

#define TEXT_OF(number) #number
#define TEXT(number) TEXT_OF(number)
#define TUNNEL TEXT(RULES_DEVICES_TUNNEL)
#define INSIDE TEXT(RULES_DEVICES_INSIDE)

/*
 * A line is printed when the kernel has what it needs.  Why the rules are as they are:
 *
 * publish: the exact address first, then any.  It is reached for addresses of this host only (fib),
 * by packets from the wire and from instances (prerouting) and by our own (output).  127.0.0.0/8 is
 * left out in prerouting: from a wire such packets are forged, and being rewritten before the
 * routing decision they would escape its check.  ::1 is left out because the kernel lets no packet
 * from ::1 onto a wire, link-local because it needs one.  An isolated network's frames are not ours
 * to translate, though br_netfilter shows them here: what is our address there is a neighbour's.
 *
 * postrouting: what goes back out where it came from (an instance that uses a published port of its
 * own network) must return through us, hence gets our address.  So must what comes from 127.0.0.1.
 * Then the way out of NAT networks; floating addresses of routers leave as they are.
 *
 * guard: nothing from an instance may claim to be 127.0.0.0/8, for we have route_localnet on the
 * bridge, nor an address that does not live behind its bridge.  A connection's first packet
 * decides; a tunnel's packet, which belongs to none, each time: who may send with any address on
 * its own network must not be another's peer.
 *
 * input: a gateway address serves its own bridge only: not a neighbour's instances, and not a host
 * on the wire that found out how to route to it.  What is in a tunnel must come from one of its
 * peers: a VNI is no secret.  Its packets go one way with ports of their own, so to connection
 * tracking each of them is a new one, which would be asked all that only first packets are asked:
 * they are not tracked (track, untracked).
 *
 * Isolated bridges come first: an address there may be somebody else's elsewhere, so an answer need
 * not be one.  track: for the same reason their connections are told apart by a zone for each.
 *
 * leaving, forward: what a bridge forwards comes here too (br_netfilter), from the bridge to the
 * bridge, so the groups of a port (from_port, to_port) judge it like what is routed.  Answers and
 * published ports pass, and what is for a router's floating addresses; networks do not reach each
 * other, and NAT networks are not reached from outside, whatever a group says.  Without neighbour
 * discovery there is no IPv6; hop limit 255 says that it comes from this segment.  `leaving` is a
 * chain with a hook of its own, so that its accept is not the last word.
 */
struct line {
	bool ipv6;
	const char *text;
};

static const struct line inet_lines[] = {
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
	{ false, "	iifname @isolated return" },
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
	{ false, "	iifname . ip saddr @floating4 accept" },
	{ true, "	iifname . ip6 saddr @floating6 accept" },
	{ false, "	iifname @nat_bridges oifname != @bridges masquerade" },
	{ false, "}" },
	{ false, "chain track {" },
	{ false, "	type filter hook prerouting priority raw; policy accept;" },
	{ false, "	udp dport . @th,96,24 @tunnels notrack accept" },
	{ false, "	ct zone set iifname map @zones" },
	{ false, "}" },
	{ false, "chain untracked {" },
	{ false, "	type filter hook output priority raw; policy accept;" },
	{ false, "	udp dport . @th,96,24 @tunnels notrack" },
	{ false, "}" },
	{ false, "chain guard {" },
	{ false, "	type filter hook prerouting priority mangle; policy accept;" },
	{ false, "	ct state established,related accept" },
	{ false, "	ip daddr 127.0.0.0/8 iifname @bridges drop" },
	{ false, "	ip saddr 127.0.0.0/8 iifname @bridges drop" },
	{ false, "	ct state new iifname @bridges fib saddr . iif oif missing drop" },
	{ false, "	iifgroup " INSIDE
		 " udp dport . @th,96,24 @tunnels fib saddr . iif oif missing drop" },
	{ false, "}" },
	{ false, "chain input {" },
	{ false, "	type filter hook input priority filter; policy accept;" },
	{ false, "	iifname @isolated drop" },
	{ false, "	meta nfproto ipv4 udp dport . @th,96,24 . ip saddr @tunnel_peers4 accept" },
	{ true,
	  "	meta nfproto ipv6 udp dport . @th,96,24 . ip6 saddr @tunnel_peers6 accept" },
	{ false, "	udp dport . @th,96,24 @tunnels drop" },
	{ false, "	ct state established,related accept" },
	{ false, "	iifname \"lo\" accept" },
	{ false, "	iifname . ip daddr @own_gateways4 accept" },
	{ false, "	ip daddr @gateways4 drop" },
	{ true, "	iifname . ip6 daddr @own_gateways6 accept" },
	{ true, "	ip6 daddr @gateways6 drop" },
	{ false, "}" },
	{ false, "chain from_port {" },
	{ false, "}" },
	{ false, "chain to_port {" },
	{ false, "}" },
	{ false, "chain walls {" },
	{ false, "	iifname . oifname @same_bridge return" },
	{ false,
	  "	iifname @bridges oifname @bridges reject with icmpx type admin-prohibited" },
	{ false, "	oifname @nat_bridges drop" },
	{ false, "}" },
	{ false, "chain leaving {" },
	{ false, "	type filter hook forward priority -10; policy accept;" },
	{ false, "	ct state established,related accept" },
	{ true, "	icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept" },
	{ false, "	jump from_port" },
	{ false, "}" },
	{ false, "chain forward {" },
	{ false, "	type filter hook forward priority filter; policy accept;" },
	{ false, "	ct state established,related accept" },
	{ false, "	iifname @isolated oifname != @isolated drop" },
	{ false, "	ct status dnat accept" },
	{ false, "	oifname . ip daddr @floating4 accept" },
	{ true, "	oifname . ip6 daddr @floating6 accept" },
	{ false, "	jump walls" },
	{ true,
	  "	icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept" },
	{ false, "	jump to_port" },
	{ false, "}" },
};

/*
 * What a port may send and what it gets, frame by frame.  Frames of other bridges leave at once,
 * and what comes from a tunnel, or goes there, before anything is looked up: no port is one.
 *
 * prerouting: almost everything has one of the port's own MACs and addresses and is neither UDP nor
 * ICMPv6: that is one look.  For the rest the kind of frame counts, as it stands in the frame: so
 * tags of VLANs, which the kernel has taken off by now, are seen, and spanning tree, LLDP and what
 * else is neither ARP nor IP goes no further.
 *
 * from4: the only packet without an address is a DHCP client's question; nobody answers as a
 * server. asks: ARP tells of own addresses only; one that has none yet may ask whether its own is
 * taken. from6: no router advertisements, redirects, queries or renumbering, no DHCP server.  What
 * speaks for the link is never in fragments (RFC 6980), where we would not see what it says.
 * target6 sees that what is announced is the port's own.
 *
 * forward: a port is given what is addressed to it, MAC and IP, ARP and neighbour discovery, and
 * broadcasts when it has no groups or they let everything in.  Nothing comes back to its sender
 * (hairpin mode, which published ports need, would return broadcasts).
 */
static const struct line bridge_lines[] = {
	{ false, "chain hears {" },
	{ false, "}" },
	{ true, "chain target6 {" },
	{ true, "}" },
	{ false, "chain from4 {" },
	{ false,
	  "	udp sport 68 udp dport 67 ip saddr 0.0.0.0 ip daddr 255.255.255.255 accept" },
	{ false, "	udp sport 67 drop" },
	{ false, "	iifname . ether saddr . ip saddr @own4 accept" },
	{ false, "	drop" },
	{ false, "}" },
	{ false, "chain asks {" },
	{ false, "	arp htype != 1 drop" },
	{ false, "	arp ptype != ip drop" },
	{ false, "	arp hlen != 6 drop" },
	{ false, "	arp plen != 4 drop" },
	{ false, "	iifname . arp saddr ether . arp saddr ip @own4 accept" },
	{ false, "	arp operation request arp saddr ip 0.0.0.0 "
		 "iifname . arp saddr ether . arp daddr ip @own4 accept" },
	{ false, "	drop" },
	{ false, "}" },
	{ true, "chain from6 {" },
	{ true, "	udp sport 547 drop" },
	{ true,
	  "	icmpv6 type { nd-router-advert, nd-redirect, mld-listener-query, 138 } drop" },
	{ true, "	ip6 saddr fe80::/10 exthdr frag exists drop" },
	{ true, "	icmpv6 type nd-neighbor-advert jump target6" },
	{ true, "	ip6 saddr :: icmpv6 type nd-neighbor-solicit jump target6" },
	{ true, "	ip6 saddr :: icmpv6 type { nd-neighbor-solicit, nd-router-solicit, "
		"mld-listener-report, mld2-listener-report } accept" },
	{ true, "	iifname . ether saddr . ip6 saddr @own6 accept" },
	{ true, "	drop" },
	{ true, "}" },
	{ false, "chain prerouting {" },
	{ false, "	type filter hook prerouting priority -300; policy accept;" },
	{ false, "	iifgroup " TUNNEL " accept" },
	{ false,
	  "	ether type ip meta l4proto != udp iifname . ether saddr . ip saddr @own4 accept" },
	{ true,
	  "	ether type ip6 meta l4proto tcp iifname . ether saddr . ip6 saddr @own6 accept" },
	{ false, "	iifname != @guarded accept" },
	{ false, "	iifname . ether saddr != @own_mac drop" },
	{ false, "	ether type ip goto from4" },
	{ false, "	ether type arp goto asks" },
	{ true, "	ether type ip6 goto from6" },
	{ false, "	drop" },
	{ false, "}" },
	{ false, "chain forward {" },
	{ false, "	type filter hook forward priority -300; policy accept;" },
	{ false, "	oifgroup " TUNNEL " accept" },
	{ false, "	ether type ip oifname . ether daddr . ip daddr @own4 accept" },
	{ true, "	ether type ip6 oifname . ether daddr . ip6 daddr @own6 accept" },
	{ false, "	oifname != @guarded accept" },
	{ false, "	iifname . oifname @self drop" },
	{ false, "	ether type arp accept" },
	{ true, "	icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept" },
	{ false, "	ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 drop" },
	{ false, "	oifname @open accept" },
	{ false, "	jump hears" },
	{ false, "	drop" },
	{ false, "}" },
};

static bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* The chains and their hooks alone, so that they can be emptied, or everything. */
static void put_table(struct strbuf *text, const char *prefix, uint8_t family,
		      const struct line *lines, size_t count, bool ipv6, bool rules)
{
	strbuf_printf(text, "table %s %s {\n", family == NFPROTO_INET ? "inet" : "bridge", prefix);
	for (int i = 0; i < RULES_SET_COUNT; i++) {
		const struct rules_shape *shape = &rules_shapes[i];

		if (rules_family(shape) == family && (ipv6 || !shape->ipv6))
			strbuf_printf(text, "%s %s { %s; %s}\n",
				      strchr(shape->type, ':') ? "map" : "set", shape->name,
				      shape->type, shape->interval ? "flags interval; " : "");
	}
	for (size_t i = 0; i < ARRAY_COUNT(chain_sets); i++)
		if (chain_sets[i].family == family)
			strbuf_printf(text, "%s\n", chain_sets[i].text);
	for (size_t i = 0; i < count; i++)
		if ((ipv6 || !lines[i].ipv6) &&
		    (rules || lines[i].text[0] != '\t' || starts(lines[i].text, "\ttype ")))
			strbuf_printf(text, "%s\n", lines[i].text);
	strbuf_puts(text, "}\n");
}

/* Chains without rules of their own here are written by chains.c. */
static void put_flushes(struct strbuf *text, const char *prefix, uint8_t family,
			const struct line *lines, size_t count, bool ipv6)
{
	for (size_t i = 0; i + 1 < count; i++)
		if (starts(lines[i].text, "chain ") && (ipv6 || !lines[i].ipv6) &&
		    lines[i + 1].text[0] != '}')
			strbuf_printf(text, "flush chain %s %s %.*s\n",
				      family == NFPROTO_INET ? "inet" : "bridge", prefix,
				      (int) strcspn(lines[i].text + 6, " "), lines[i].text + 6);
}

char *rules_text(const char *prefix, bool bridge, bool ipv6)
{
	AUTO(strbuf_done) struct strbuf text = {};
	const struct {
		uint8_t family;
		const struct line *lines;
		size_t count;
	} tables[] = {
		{ NFPROTO_INET, inet_lines, ARRAY_COUNT(inet_lines) },
		{ NFPROTO_BRIDGE, bridge_lines, ARRAY_COUNT(bridge_lines) },
	};

	for (int i = 0; i <= bridge; i++) {
		put_table(&text, prefix, tables[i].family, tables[i].lines, tables[i].count, ipv6,
			  false);
		put_flushes(&text, prefix, tables[i].family, tables[i].lines, tables[i].count,
			    ipv6);
		put_table(&text, prefix, tables[i].family, tables[i].lines, tables[i].count, ipv6,
			  true);
	}
	return strbuf_take(&text);
}
