#pragma once
/*
 * net/rules_text_internal.h - the text of our nft table and the shape of its sets.
 *
 * Used by rules.c; apart from it so that a person can read the rules in one place.
 */
#include <stdbool.h>
#include <stdint.h>

#include "net/rules_internal.h"

struct rules_shape {
	const char *name;
	const char *type; /* of nft: "type ...", or "typeof ..." */ /* as nft writes it */
	uint8_t key_size, value_size;
	bool interval; /* `value_size` bytes at the end of the key have a last value */
	bool ipv6;     /* left out when the kernel has no IPv6 */
};

extern const struct rules_shape rules_shapes[RULES_SET_COUNT];

/* A script that creates the table or puts its rules back, and leaves elements alone.  Caller frees.
 */
char *rules_text(const char *prefix, bool ipv6);
