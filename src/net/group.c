#include "net/group.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "kern/nft_rule.h"
#include "net/address.h"
#include "net/chains_internal.h"
#include "net/group_internal.h"
#include "net/guard_internal.h"
#include "net/node_internal.h"
#include "net/rules_internal.h"

enum { PROTOCOL_ANY = -1, PROTOCOL_ICMP = -2 };

static int parse_protocol(const char *text)
{
	if (text && strcmp(text, "tcp") == 0)
		return IPPROTO_TCP;
	if (text && strcmp(text, "udp") == 0)
		return IPPROTO_UDP;
	if (text && strcmp(text, "icmp") == 0)
		return PROTOCOL_ICMP;
	return text && strcmp(text, "any") == 0 ? PROTOCOL_ANY : -EINVAL;
}

static bool is_given(const char *text)
{
	return text && text[0];
}

static int check_rule(const struct group_rule *rule, struct error *err)
{
	int protocol = parse_protocol(rule->protocol);
	struct route_ip subnet;

	if (protocol == -EINVAL)
		return error_say(err, -EINVAL, "protocol '%.16s': must be tcp, udp, icmp or any",
				 rule->protocol ? rule->protocol : "");
	if (rule->port && protocol < 0)
		return error_say(err, -EINVAL, "ports: only tcp and udp have them");
	if (rule->last_port < rule->port)
		return error_say(err, -EINVAL,
				 "ports %u-%u: must be from the least to the greatest", rule->port,
				 rule->last_port);
	if (is_given(rule->cidr) && is_given(rule->group))
		return error_say(err, -EINVAL, "a rule is for addresses or for a group, not both");
	if (is_given(rule->cidr) && address_parse_subnet(rule->cidr, &subnet) < 0)
		return error_say(err, -EINVAL,
				 "'%.64s': must be like 10.0.0.0/8 or fd00::/8, host bits zero",
				 rule->cidr);
	if (is_given(rule->group) && !name_is_uid(rule->group))
		return error_say(err, -EINVAL, "group uid '%.40s': must be 1 to 32 of 0-9 and a-f",
				 rule->group);
	return 0;
}

static int check_rules(const char *way, const struct group_rule *rules, size_t count,
		       struct error *err)
{
	if (count > GROUP_RULES_MAX)
		return error_say(err, -E2BIG, "%zu %s rules: a group may have %d", count, way,
				 GROUP_RULES_MAX);
	for (size_t i = 0; i < count; i++) {
		int r = check_rule(&rules[i], err);

		if (r < 0)
			return error_wrap(err, r, "%s rule %zu", way, i + 1);
	}
	return 0;
}

static int check_uid(const char *uid, struct error *err)
{
	if (name_is_uid(uid))
		return 0;
	return error_say(err, -EINVAL, "group uid '%.40s': must be 1 to 32 of 0-9 and a-f",
			 uid ? uid : "");
}

int group_check(const struct group_spec *spec, struct error *err)
{
	int r = check_uid(spec->uid, err);

	if (r == 0)
		r = check_rules("ingress", spec->ingress, spec->ingress_count, err);
	if (r == 0)
		r = check_rules("egress", spec->egress, spec->egress_count, err);
	return r;
}

static void put_protocol(struct nft_rule *rule, int protocol, bool ipv6)
{
	uint8_t number = (uint8_t) protocol;

	if (protocol == PROTOCOL_ANY)
		return;
	if (protocol == PROTOCOL_ICMP)
		number = ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
	nft_rule_meta(rule, NFT_META_L4PROTO, NFT_REG_1);
	nft_rule_compare(rule, NFT_REG_1, NFT_CMP_EQ, &number, sizeof(number));
}

static void put_ports(struct nft_rule *rule, uint16_t first, uint16_t last)
{
	uint16_t first_be = htons(first), last_be = htons(last);

	if (!first)
		return;
	nft_rule_payload(rule, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, NFT_REG_1);
	if (first == last) {
		nft_rule_compare(rule, NFT_REG_1, NFT_CMP_EQ, &first_be, sizeof(first_be));
		return;
	}
	nft_rule_compare(rule, NFT_REG_1, NFT_CMP_GTE, &first_be, sizeof(first_be));
	nft_rule_compare(rule, NFT_REG_1, NFT_CMP_LTE, &last_be, sizeof(last_be));
}

/* Where the address of the other end stands. */
static uint32_t peer_offset(bool ingress, bool ipv6)
{
	if (ipv6)
		return ingress ? 8 : 24;
	return ingress ? 12 : 16;
}

static void put_subnet(struct nft_rule *rule, const struct route_ip *subnet, bool ingress)
{
	bool ipv6 = subnet->family == AF_INET6;
	uint32_t size = (uint32_t) route_ip_size(subnet);
	uint8_t mask[16] = {};

	if (subnet->prefix == 0)
		return;
	for (unsigned int bit = 0; bit < subnet->prefix; bit++)
		mask[bit / 8] |= (uint8_t) (0x80 >> bit % 8);
	nft_rule_payload(rule, NFT_PAYLOAD_NETWORK_HEADER, peer_offset(ingress, ipv6), size,
			 NFT_REG_1);
	if (subnet->prefix < size * 8)
		nft_rule_mask(rule, NFT_REG_1, mask, size);
	nft_rule_compare(rule, NFT_REG_1, NFT_CMP_EQ, subnet->bytes, size);
}

/* A set of (group, bridge, address). */
static void put_members(struct nft_rule *rule, uint32_t number, bool ingress, bool ipv6)
{
	nft_rule_constant(rule, &number, sizeof(number), NFT_REG32_00);
	nft_rule_meta(rule, ingress ? NFT_META_IIFNAME : NFT_META_OIFNAME, NFT_REG32_01);
	nft_rule_payload(rule, NFT_PAYLOAD_NETWORK_HEADER, peer_offset(ingress, ipv6),
			 ipv6 ? 16 : 4, NFT_REG32_05);
	nft_rule_lookup(rule, ipv6 ? "members6" : "members4", NFT_REG32_00, false);
}

static void add_rule(struct chains *chains, const struct group_rule *from, bool ingress, bool ipv6,
		     size_t number, struct strbuf *rules)
{
	uint8_t family = ipv6 ? NFPROTO_IPV6 : NFPROTO_IPV4;
	struct route_ip subnet = {};
	char comment[24];
	struct nft_rule rule;

	/* Checked before. */
	if (is_given(from->cidr) && (address_parse_subnet(from->cidr, &subnet) < 0 ||
				     subnet.family != (ipv6 ? AF_INET6 : AF_INET)))
		return;
	nft_rule_init(&rule);
	nft_rule_meta(&rule, NFT_META_NFPROTO, NFT_REG_1);
	nft_rule_compare(&rule, NFT_REG_1, NFT_CMP_EQ, &family, sizeof(family));
	put_protocol(&rule, parse_protocol(from->protocol), ipv6);
	put_ports(&rule, from->port, from->last_port);
	if (subnet.family)
		put_subnet(&rule, &subnet, ingress);
	if (is_given(from->group))
		put_members(&rule, chains_group_number(chains, from->group), ingress, ipv6);
	nft_rule_verdict(&rule, NF_ACCEPT, NULL);
	snprintf(comment, sizeof(comment), "%zu", number);
	chains_add_rule(rules, &rule, comment);
}

struct change {
	const struct group_spec *spec;
	bool ipv6;
};

static void add_rules(struct chains *chains, const struct change *change, bool ingress,
		      struct strbuf *rules)
{
	const struct group_spec *spec = change->spec;
	const struct group_rule *list = ingress ? spec->ingress : spec->egress;
	size_t count = ingress ? spec->ingress_count : spec->egress_count;

	for (size_t i = 0; i < count; i++)
		for (int ipv6 = 0; ipv6 <= change->ipv6; ipv6++)
			add_rule(chains, &list[i], ingress, ipv6, i + 1, rules);
}

static bool is_everything(const struct group_rule *rule, const char *own_uid)
{
	return parse_protocol(rule->protocol) == PROTOCOL_ANY && !is_given(rule->cidr) &&
	       (!is_given(rule->group) || strcmp(rule->group, own_uid) == 0);
}

/* Whether its members may do everything among themselves. */
static bool is_open(const struct group_spec *spec)
{
	bool in = false, out = spec->egress_all;

	for (size_t i = 0; i < spec->ingress_count; i++)
		in = in || is_everything(&spec->ingress[i], spec->uid);
	for (size_t i = 0; i < spec->egress_count; i++)
		out = out || is_everything(&spec->egress[i], spec->uid);
	return in && out;
}

static int write_group(struct chains *chains, void *data)
{
	AUTO(strbuf_done) struct strbuf in = {}, out = {};
	const struct change *change = data;
	const struct group_spec *spec = change->spec;
	struct nft_rule rule;
	bool loud = false;

	add_rules(chains, change, true, &in);
	if (spec->egress_all) {
		nft_rule_init(&rule);
		nft_rule_verdict(&rule, NF_ACCEPT, NULL);
		chains_add_rule(&out, &rule, "");
	}
	add_rules(chains, change, false, &out);
	for (size_t i = 0; i < spec->ingress_count; i++)
		loud = loud || parse_protocol(spec->ingress[i].protocol) == PROTOCOL_ANY;
	chains_set_group(chains, spec->uid, &in, &out, loud, is_open(spec));
	return 0;
}

int group_ensure(struct net *net, const struct group_spec *spec, struct error *err)
{
	struct change change = { .spec = spec, .ipv6 = net->ipv6 };
	int r = group_check(spec, err);

	if (r < 0)
		return r;
	NET_LOCKED(net);
	if (!is_open(spec))
		r = guard_group_closes(net, spec->uid, err);
	return r < 0 ? r : rules_change_chains(net->rules, write_group, &change, err);
}

static int drop_group(struct chains *chains, void *data)
{
	return chains_remove_group(chains, data);
}

int group_remove_locked(struct net *net, const char *uid, struct error *err)
{
	int r = rules_change_chains(net->rules, drop_group, (char *) uid, err);

	return r == -EBUSY ? error_say(err, r, "security group %s has ports", uid) : r;
}

int group_remove(struct net *net, const char *uid, struct error *err)
{
	int r = check_uid(uid, err);

	if (r < 0)
		return r;
	NET_LOCKED(net);
	return group_remove_locked(net, uid, err);
}
