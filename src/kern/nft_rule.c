#include "kern/nft_rule.h"

#include <arpa/inet.h>
#include <assert.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

/* Attributes are collected behind a header that is never sent: libmnl writes into messages. */
static struct nlmsghdr *message_of(struct nft_rule *rule)
{
	return (struct nlmsghdr *) (void *) rule->bytes;
}

struct nest {
	struct nlattr *expression, *options;
};

void nft_rule_init(struct nft_rule *rule)
{
	(void) mnl_nlmsg_put_header(rule->bytes);
}

static struct nest begin(struct nft_rule *rule, const char *name)
{
	struct nlmsghdr *message = message_of(rule);
	struct nest nest = { .expression = mnl_attr_nest_start(message, NFTA_LIST_ELEM) };

	/* The longest rule that net/ makes has a fifth of this. */
	assert(message->nlmsg_len + 256 < NFT_RULE_SIZE_MAX);
	mnl_attr_put_strz(message, NFTA_EXPR_NAME, name);
	nest.options = mnl_attr_nest_start(message, NFTA_EXPR_DATA);
	return nest;
}

static void end(struct nft_rule *rule, struct nest nest)
{
	mnl_attr_nest_end(message_of(rule), nest.options);
	mnl_attr_nest_end(message_of(rule), nest.expression);
}

static void put_u32(struct nft_rule *rule, uint16_t type, uint32_t value)
{
	mnl_attr_put_u32(message_of(rule), type, htonl(value));
}

static void put_data(struct nft_rule *rule, uint16_t type, const void *data, size_t size)
{
	struct nlattr *nest = mnl_attr_nest_start(message_of(rule), type);

	mnl_attr_put(message_of(rule), NFTA_DATA_VALUE, size, data);
	mnl_attr_nest_end(message_of(rule), nest);
}

void nft_rule_meta(struct nft_rule *rule, uint32_t key, uint32_t to)
{
	struct nest nest = begin(rule, "meta");

	put_u32(rule, NFTA_META_KEY, key);
	put_u32(rule, NFTA_META_DREG, to);
	end(rule, nest);
}

void nft_rule_meta_set(struct nft_rule *rule, uint32_t key, uint32_t from)
{
	struct nest nest = begin(rule, "meta");

	put_u32(rule, NFTA_META_KEY, key);
	put_u32(rule, NFTA_META_SREG, from);
	end(rule, nest);
}

void nft_rule_payload(struct nft_rule *rule, uint32_t header, uint32_t offset, uint32_t size,
		      uint32_t to)
{
	struct nest nest = begin(rule, "payload");

	put_u32(rule, NFTA_PAYLOAD_DREG, to);
	put_u32(rule, NFTA_PAYLOAD_BASE, header);
	put_u32(rule, NFTA_PAYLOAD_OFFSET, offset);
	put_u32(rule, NFTA_PAYLOAD_LEN, size);
	end(rule, nest);
}

void nft_rule_constant(struct nft_rule *rule, const void *data, size_t size, uint32_t to)
{
	struct nest nest = begin(rule, "immediate");

	put_u32(rule, NFTA_IMMEDIATE_DREG, to);
	put_data(rule, NFTA_IMMEDIATE_DATA, data, size);
	end(rule, nest);
}

void nft_rule_compare(struct nft_rule *rule, uint32_t from, uint32_t how, const void *data,
		      size_t size)
{
	struct nest nest = begin(rule, "cmp");

	put_u32(rule, NFTA_CMP_SREG, from);
	put_u32(rule, NFTA_CMP_OP, how);
	put_data(rule, NFTA_CMP_DATA, data, size);
	end(rule, nest);
}

void nft_rule_mask(struct nft_rule *rule, uint32_t reg, const void *mask, size_t size)
{
	static const uint8_t zeros[16];
	struct nest nest = begin(rule, "bitwise");

	assert(size <= sizeof(zeros));
	put_u32(rule, NFTA_BITWISE_SREG, reg);
	put_u32(rule, NFTA_BITWISE_DREG, reg);
	put_u32(rule, NFTA_BITWISE_LEN, (uint32_t) size);
	put_data(rule, NFTA_BITWISE_MASK, mask, size);
	put_data(rule, NFTA_BITWISE_XOR, zeros, size);
	end(rule, nest);
}

void nft_rule_lookup(struct nft_rule *rule, const char *set, uint32_t from, bool inverted)
{
	struct nest nest = begin(rule, "lookup");

	mnl_attr_put_strz(message_of(rule), NFTA_LOOKUP_SET, set);
	put_u32(rule, NFTA_LOOKUP_SREG, from);
	if (inverted)
		put_u32(rule, NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
	end(rule, nest);
}

void nft_rule_map(struct nft_rule *rule, const char *map, uint32_t from, uint32_t to)
{
	struct nest nest = begin(rule, "lookup");

	mnl_attr_put_strz(message_of(rule), NFTA_LOOKUP_SET, map);
	put_u32(rule, NFTA_LOOKUP_SREG, from);
	put_u32(rule, NFTA_LOOKUP_DREG, to);
	end(rule, nest);
}

void nft_rule_verdict(struct nft_rule *rule, int verdict, const char *chain)
{
	struct nlmsghdr *message = message_of(rule);
	struct nest nest = begin(rule, "immediate");
	struct nlattr *data, *inner;

	put_u32(rule, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	data = mnl_attr_nest_start(message, NFTA_IMMEDIATE_DATA);
	inner = mnl_attr_nest_start(message, NFTA_DATA_VERDICT);
	put_u32(rule, NFTA_VERDICT_CODE, (uint32_t) verdict);
	if (chain)
		mnl_attr_put_strz(message, NFTA_VERDICT_CHAIN, chain);
	mnl_attr_nest_end(message, inner);
	mnl_attr_nest_end(message, data);
	end(rule, nest);
}

const void *nft_rule_data(const struct nft_rule *rule, size_t *ret_size)
{
	const struct nlmsghdr *message = (const void *) rule->bytes;

	*ret_size = mnl_nlmsg_get_payload_len(message);
	return mnl_nlmsg_get_payload(message);
}
