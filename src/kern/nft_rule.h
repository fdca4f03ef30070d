#pragma once
/*
 * kern/nft_rule.h - one rule of nftables, put together expression by expression.
 *
 *	struct nft_rule rule;
 *	nft_rule_init(&rule);
 *	nft_rule_payload(&rule, NFT_PAYLOAD_NETWORK_HEADER, 12, 4, NFT_REG_1);
 *	nft_rule_compare(&rule, NFT_REG_1, NFT_CMP_EQ, address, 4);
 *	nft_rule_verdict(&rule, NF_ACCEPT, NULL);
 *
 * For rules that change while instances run, and for the few that nft's language cannot say.  The
 * names of registers, headers and keys are those of linux/netfilter/nf_tables.h.  Parts of a key
 * that is looked up stand in registers one after the other: 16 bytes in NFT_REG_1, the next in
 * NFT_REG_2; registers of 4 bytes begin with NFT_REG32_00, which is where NFT_REG_1 begins.
 *
 * Used by net/ with kern/nft.h.  Pure: no I/O, no state but the rule.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NFT_RULE_SIZE_MAX = 1536 };

struct nft_rule {
	_Alignas(8) uint8_t bytes[NFT_RULE_SIZE_MAX];
};

void nft_rule_init(struct nft_rule *rule);

/* Loads a fact about the packet (NFT_META_...). */
void nft_rule_meta(struct nft_rule *rule, uint32_t key, uint32_t to);

/* Changes one: the mark, say. */
void nft_rule_meta_set(struct nft_rule *rule, uint32_t key, uint32_t from);

/* Loads `size` bytes at `offset` of a header. */
void nft_rule_payload(struct nft_rule *rule, uint32_t header, uint32_t offset, uint32_t size,
		      uint32_t to);

/* Loads a constant. */
void nft_rule_constant(struct nft_rule *rule, const void *data, size_t size, uint32_t to);

/* Goes on only when it is so: `how` is NFT_CMP_EQ, _NEQ, _LT, _LTE, _GT or _GTE, of bytes. */
void nft_rule_compare(struct nft_rule *rule, uint32_t from, uint32_t how, const void *data,
		      size_t size);

/* Keeps the bits of a mask. */
void nft_rule_mask(struct nft_rule *rule, uint32_t reg, const void *mask, size_t size);

/* Goes on only when a set has the key; `inverted`: has it not. */
void nft_rule_lookup(struct nft_rule *rule, const char *set, uint32_t from, bool inverted);

/* As above, and loads the map's value; a verdict (`to` NFT_REG_VERDICT) is carried out. */
void nft_rule_map(struct nft_rule *rule, const char *map, uint32_t from, uint32_t to);

/* NF_ACCEPT, NF_DROP, NFT_RETURN, or NFT_JUMP and NFT_GOTO to a chain. */
void nft_rule_verdict(struct nft_rule *rule, int verdict, const char *chain);

/* What nft_batch_add_rule() takes; valid as long as the rule is. */
const void *nft_rule_data(const struct nft_rule *rule, size_t *ret_size);
