#pragma once
/*
 * net/balance_plan.h - which member gets which share of a balancer's new connections.
 *
 * A balancer's map in the kernel has numbered slots, each with a member; a new connection takes a
 * slot by turns, at random, or by the hash of its source.  What stands in the slots is decided
 * here. Used by net/balance.c and the agent (weights for people).  Pure functions.
 */
#include <stddef.h>
#include <stdint.h>

enum balance_algorithm {
	BALANCE_ROUND_ROBIN,       /* by turns: one slot each */
	BALANCE_LEAST_CONNECTIONS, /* at random, with weights made of the present connections */
	BALANCE_SOURCE_HASH,       /* by the source's address */
};

enum { BALANCE_SLOTS_MAX = 4096, BALANCE_WEIGHT_WHOLE = 1000 };

/*
 * A member's part in the choice.  `hash` is of its address: where it stands in a table of hashes
 * depends on that alone.
 */
struct balance_share {
	uint64_t hash;
	uint32_t connections;
};

/*
 * Fills `slots` (room for BALANCE_SLOTS_MAX) with indices of the `count` members; returns how many
 * slots there are, 0 without members.
 *
 * Source hash: every member gets as many slots as the others, but for one; when a member comes or
 * goes, few others change hands (Maglev's way of filling a table).
 */
size_t balance_fill(enum balance_algorithm algorithm, const struct balance_share *shares,
		    size_t count, uint16_t *slots);

/*
 * Weights that add up to BALANCE_WEIGHT_WHOLE, one at least for each: who has few connections gets
 * more of the new ones.  An empty member among n loaded ones gets about twice their share, not
 * everything: connections are counted at intervals, and what comes in between must not bury it.
 */
void balance_weights(const struct balance_share *shares, size_t count, uint32_t *weights);

uint64_t balance_hash(const void *data, size_t size);
