#include "net/balance_text_internal.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>

#include "net/address.h"

enum { PART = 4 };

/* In this order in a key. */
enum { HAS_BRIDGE = 1, HAS_ADDRESS = 2, HAS_PORT = 4 };

static const struct {
	const char *name, *type;
	bool ipv6;
	uint8_t parts;
} sets[BALANCE_SET_COUNT] = {
	[BALANCE_ANY] = { "any", "inet_proto . inet_service : verdict", false, HAS_PORT },
	[BALANCE_NODE4] = { "node4", "ipv4_addr . inet_proto . inet_service : verdict", false,
			    HAS_ADDRESS | HAS_PORT },
	[BALANCE_NODE6] = { "node6", "ipv6_addr . inet_proto . inet_service : verdict", true,
			    HAS_ADDRESS | HAS_PORT },
	[BALANCE_VIP4] = { "vip4", "ifname . ipv4_addr . inet_proto . inet_service : verdict",
			   false, HAS_BRIDGE | HAS_ADDRESS | HAS_PORT },
	[BALANCE_VIP6] = { "vip6", "ifname . ipv6_addr . inet_proto . inet_service : verdict", true,
			   HAS_BRIDGE | HAS_ADDRESS | HAS_PORT },
	[BALANCE_FAR4] = { "far4", "ipv4_addr . inet_proto . inet_service : verdict", false,
			   HAS_ADDRESS | HAS_PORT },
	[BALANCE_FAR6] = { "far6", "ipv6_addr . inet_proto . inet_service : verdict", true,
			   HAS_ADDRESS | HAS_PORT },
	[BALANCE_OWN4] = { "own4", "ipv4_addr . inet_proto . inet_service : verdict", false,
			   HAS_ADDRESS | HAS_PORT },
	[BALANCE_OWN6] = { "own6", "ipv6_addr . inet_proto . inet_service : verdict", true,
			   HAS_ADDRESS | HAS_PORT },
	[BALANCE_VIPS4] = { "vips4", "ipv4_addr", false, HAS_ADDRESS },
	[BALANCE_VIPS6] = { "vips6", "ipv6_addr", true, HAS_ADDRESS },
	[BALANCE_HOME4] = { "home4", "ifname . ipv4_addr", false, HAS_BRIDGE | HAS_ADDRESS },
	[BALANCE_HOME6] = { "home6", "ifname . ipv6_addr", true, HAS_BRIDGE | HAS_ADDRESS },
};

/*
 * Why the rules are as they are:
 *
 * They come before published ports (dstnat - 1): an exact address is meant before all of them.
 * 127.0.0.0/8 and the like are left out in prerouting for the reasons that published ports have
 * (rules_text.c), and so are frames of isolated networks: those have a conntrack zone, nobody else
 * has.  A balancer's own address is reached from its network, from the node, and from
 * outside when the network is routed; from other networks it is not, as an instance is not.  %s is
 * how the names of our bridges begin.
 *
 * input: what is sent to a balancer's own address and to no port of it would reach the services of
 * the host.  Neighbours may ping it; unicast neighbour discovery is that too.
 */
static const struct {
	bool ipv6;
	const char *chain, *rule; /* no rule: the chain begins */
} lines[] = {
	{ false, "prerouting", "{ type nat hook prerouting priority dstnat - 1; policy accept; }" },
	{ false, "prerouting", "ct zone != 0 return" },
	{ false, "prerouting", "ip daddr 127.0.0.0/8 return" },
	{ true, "prerouting", "ip6 daddr { ::1, fe80::/10 } return" },
	{ false, "prerouting", "iifname . ip daddr . meta l4proto . th dport vmap @vip4" },
	{ true, "prerouting", "iifname . ip6 daddr . meta l4proto . th dport vmap @vip6" },
	{ false, "prerouting",
	  "iifname != \"%s-*\" ip daddr . meta l4proto . th dport vmap @far4" },
	{ true, "prerouting",
	  "iifname != \"%s-*\" ip6 daddr . meta l4proto . th dport vmap @far6" },
	{ false, "prerouting",
	  "fib daddr type local ip daddr . meta l4proto . th dport vmap @node4" },
	{ true, "prerouting",
	  "fib daddr type local ip6 daddr . meta l4proto . th dport vmap @node6" },
	{ false, "prerouting", "fib daddr type local meta l4proto . th dport vmap @any" },
	{ false, "output", "{ type nat hook output priority -101; policy accept; }" },
	{ true, "output", "ip6 daddr { ::1, fe80::/10 } return" },
	{ false, "output", "ip daddr . meta l4proto . th dport vmap @own4" },
	{ true, "output", "ip6 daddr . meta l4proto . th dport vmap @own6" },
	{ false, "output", "fib daddr type local ip daddr . meta l4proto . th dport vmap @node4" },
	{ true, "output", "fib daddr type local ip6 daddr . meta l4proto . th dport vmap @node6" },
	{ false, "output", "fib daddr type local meta l4proto . th dport vmap @any" },
	{ false, "input", "{ type filter hook input priority filter - 1; policy accept; }" },
	{ false, "input", "ct state established,related accept" },
	{ false, "input", "iif lo accept" },
	{ false, "input", "iifname . ip daddr @home4 meta l4proto icmp accept" },
	{ true, "input", "iifname . ip6 daddr @home6 meta l4proto ipv6-icmp accept" },
	{ false, "input", "ip daddr @vips4 reject with icmpx port-unreachable" },
	{ true, "input", "ip6 daddr @vips6 reject with icmpx port-unreachable" },
};

const char *balance_set_name(enum balance_set set)
{
	return sets[set].name;
}

bool balance_set_is_ipv6(enum balance_set set)
{
	return sets[set].ipv6;
}

void balance_element_make(struct balance_element *element, enum balance_set set, const char *bridge,
			  const struct route_ip *ip, const struct balance_place *place)
{
	uint8_t *key = element->key;

	*element = (struct balance_element){ .set = set };
	key = element->key;
	if (sets[set].parts & HAS_BRIDGE) {
		memcpy(key, bridge, strnlen(bridge, IF_NAMESIZE - 1));
		key += IF_NAMESIZE;
	}
	if (sets[set].parts & HAS_ADDRESS) {
		memcpy(key, ip->bytes, route_ip_size(ip));
		key += route_ip_size(ip);
	}
	if (sets[set].parts & HAS_PORT) {
		uint16_t port = htons(place->port);

		key[0] = place->protocol;
		memcpy(key + PART, &port, sizeof(port));
		key += 2 * PART;
	}
	element->key_size = (uint8_t) (key - element->key);
}

static const char *protocol_text(uint8_t protocol)
{
	return protocol == IPPROTO_UDP ? "udp" : "tcp";
}

void balance_chain_name(const char *uid, const struct balance_place *place,
			char ret[BALANCE_CHAIN_SIZE])
{
	AUTO(strbuf_done) struct strbuf name = {};

	strbuf_printf(&name, "b-%s-%s-%u-", uid, protocol_text(place->protocol), place->port);
	if (place->vip)
		strbuf_puts(&name, "vip");
	else if (!place->address.family)
		strbuf_puts(&name, "any");
	for (size_t i = 0; place->address.family && i < route_ip_size(&place->address); i++)
		strbuf_printf(&name, "%02x", place->address.bytes[i]);
	memcpy(ret, strbuf_str(&name), name.size + 1);
}

void balance_put_skeleton(struct strbuf *script, const char *prefix, bool ipv6)
{
	strbuf_printf(script, "add table inet %s-b\n", prefix);
	for (int i = 0; i < BALANCE_SET_COUNT; i++)
		if (ipv6 || !sets[i].ipv6)
			strbuf_printf(script, "add %s inet %s-b %s { type %s; }\n",
				      sets[i].parts & HAS_PORT ? "map" : "set", prefix,
				      sets[i].name, sets[i].type);
	for (size_t i = 0; i < ARRAY_COUNT(lines); i++) {
		bool chain = lines[i].rule[0] == '{';

		if (lines[i].ipv6 && !ipv6)
			continue;
		strbuf_printf(script, "add %s inet %s-b %s ", chain ? "chain" : "rule", prefix,
			      lines[i].chain);
		for (const char *c = lines[i].rule; *c; c++) {
			if (strncmp(c, "%s", 2) == 0) {
				strbuf_puts(script, prefix);
				c++;
			} else {
				strbuf_append(script, c, 1);
			}
		}
		strbuf_puts(script, "\n");
		if (chain)
			strbuf_printf(script, "flush chain inet %s-b %s\n", prefix, lines[i].chain);
	}
}

void balance_put_element(struct strbuf *script, const char *prefix, bool add,
			 const struct balance_element *element, const char *uid)
{
	uint8_t parts = sets[element->set].parts;
	const uint8_t *key = element->key;
	char text[ADDRESS_TEXT_SIZE];

	strbuf_printf(script, "%s element inet %s-b %s { ", add ? "add" : "delete", prefix,
		      sets[element->set].name);
	if (parts & HAS_BRIDGE) {
		strbuf_printf(script, "\"%.15s\" . ", (const char *) key);
		key += IF_NAMESIZE;
	}
	if (parts & HAS_ADDRESS) {
		struct route_ip ip = { .family = sets[element->set].ipv6 ? AF_INET6 : AF_INET };

		memcpy(ip.bytes, key, route_ip_size(&ip));
		strbuf_printf(script, "%s%s", address_text(&ip, text),
			      parts & HAS_PORT ? " . " : "");
		key += route_ip_size(&ip);
	}
	if (parts & HAS_PORT)
		strbuf_printf(script, "%s . %u", protocol_text(key[0]),
			      (unsigned int) key[PART] << 8 | key[PART + 1]);
	if (add && uid)
		strbuf_printf(script, " comment \"%s\"", uid);
	if (add && element->chain[0])
		strbuf_printf(script, " : jump %s", element->chain);
	strbuf_puts(script, " }\n");
}

void balance_put_map(struct strbuf *script, const char *prefix, const char *uid, bool ipv6,
		     const struct balance_choice *choice)
{
	char text[ADDRESS_TEXT_SIZE];
	int family = ipv6 ? 6 : 4;

	strbuf_printf(script,
		      "add map inet %s-b m%d-%s { typeof numgen inc mod 2 : %s daddr; }\n"
		      "flush map inet %s-b m%d-%s\n",
		      prefix, family, uid, ipv6 ? "ip6" : "ip", prefix, family, uid);
	if (choice->slot_count == 0)
		return;
	strbuf_printf(script, "add element inet %s-b m%d-%s { ", prefix, family, uid);
	for (size_t i = 0; i < choice->slot_count; i++)
		strbuf_printf(script, "%s%zu : %s", i > 0 ? ", " : "", i,
			      address_text(&choice->members[choice->slots[i]], text));
	strbuf_puts(script, " }\n");
}

static void put_target(struct strbuf *script, const char *prefix, const char *chain,
		       const char *uid, const struct balance_place *place,
		       enum balance_algorithm algorithm, bool ipv6, size_t slots)
{
	if (slots == 0)
		return;
	strbuf_printf(script, "add rule inet %s-b %s meta nfproto %s meta l4proto %s dnat %s to ",
		      prefix, chain, ipv6 ? "ipv6" : "ipv4", protocol_text(place->protocol),
		      ipv6 ? "ip6" : "ip");
	if (algorithm == BALANCE_SOURCE_HASH)
		strbuf_printf(script, "jhash %s saddr mod %zu seed 0x%08x", ipv6 ? "ip6" : "ip",
			      slots, (uint32_t) balance_hash(uid, strlen(uid)) | 1);
	else
		strbuf_printf(script, "numgen %s mod %zu",
			      algorithm == BALANCE_ROUND_ROBIN ? "inc" : "random", slots);
	strbuf_printf(script, " map @m%d-%s : %u\n", ipv6 ? 6 : 4, uid, place->target_port);
}

void balance_put_chain(struct strbuf *script, const char *prefix, const char *uid,
		       const struct balance_place *place, enum balance_algorithm algorithm,
		       size_t slots4, size_t slots6)
{
	char chain[BALANCE_CHAIN_SIZE];

	balance_chain_name(uid, place, chain);
	strbuf_printf(script, "add chain inet %s-b %s\nflush chain inet %s-b %s\n", prefix, chain,
		      prefix, chain);
	put_target(script, prefix, chain, uid, place, algorithm, false, slots4);
	put_target(script, prefix, chain, uid, place, algorithm, true, slots6);
	if (place->protocol == IPPROTO_TCP)
		strbuf_printf(script,
			      "add rule inet %s-b %s meta l4proto tcp reject with tcp reset\n",
			      prefix, chain);
	else
		strbuf_printf(script, "add rule inet %s-b %s reject with icmpx port-unreachable\n",
			      prefix, chain);
}
