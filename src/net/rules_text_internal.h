#pragma once
/*
 * net/rules_text_internal.h - the text of our nft tables and the shape of their sets.
 *
 * Used by rules.c; apart from it so that a person can read the rules in one place.
 */
#include <stdbool.h>
#include <stdint.h>

#include "net/rules_internal.h"

struct rules_shape {
	const char *name;
	const char *type; /* as nft writes it: "type ...", or "typeof ..." */
	uint8_t family;   /* of its table: NFPROTO_BRIDGE, or 0 = NFPROTO_INET */
	uint8_t key_size, value_size;
	bool interval; /* `value_size` bytes at the end of the key have a last value */
	bool ipv6;     /* left out when the kernel has no IPv6 */
};

extern const struct rules_shape rules_shapes[RULES_SET_COUNT];

/* The family of its table, never 0. */
uint8_t rules_family(const struct rules_shape *shape);

/*
 * A script that creates the tables or puts their rules back, and leaves elements and the chains of
 * chains_internal.h alone.  Without `bridge` the kernel has no tables of that family.  Caller
 * frees.
 */
char *rules_text(const char *prefix, bool bridge, bool ipv6);
