#include "net/balance_plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/mem.h"

enum {
	SLOTS_PER_MEMBER = 32,
	SLOTS_MIN = 64,
	FREE_SLOT = UINT16_MAX,
};

/* Primes: every step size then visits the whole table. */
static const uint16_t table_sizes[] = { 251, 1021, 4093 };

uint64_t balance_hash(const void *data, size_t size)
{
	const uint8_t *bytes = data;
	uint64_t hash = 0xcbf29ce484222325;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3;
	/* The low bits of that alone follow the last byte too closely. */
	hash ^= hash >> 33;
	hash *= 0xff51afd7ed558ccd;
	return hash ^ hash >> 33;
}

static size_t table_size(size_t count)
{
	size_t i = 0;

	while (i + 1 < ARRAY_COUNT(table_sizes) && table_sizes[i] < count * 16)
		i++;
	return table_sizes[i];
}

/* A member's own order of the slots. */
struct walk {
	uint32_t next, step;
	uint16_t member;
	uint64_t hash;
};

static int by_hash(const void *a, const void *b)
{
	const struct walk *x = a, *y = b;

	return x->hash < y->hash ? -1 : x->hash > y->hash;
}

/* By turns each takes the next slot in its own order that is still free. */
static size_t fill_table(const struct balance_share *shares, size_t count, uint16_t *slots)
{
	AUTO(free) struct walk *walks = mem_new0_array(struct walk, count);
	size_t size = table_size(count), filled = 0;

	for (size_t i = 0; i < count; i++)
		walks[i] =
			(struct walk){ .next = (uint32_t) (shares[i].hash >> 32) % (uint32_t) size,
				       .step = (uint32_t) (shares[i].hash % (size - 1)) + 1,
				       .member = (uint16_t) i,
				       .hash = shares[i].hash };
	/* Who begins does not depend on the order in which they were given. */
	qsort(walks, count, sizeof(*walks), by_hash);
	for (size_t i = 0; i < size; i++)
		slots[i] = FREE_SLOT;
	for (size_t turn = 0; filled < size; turn++) {
		struct walk *walk = &walks[turn % count];

		while (slots[walk->next] != FREE_SLOT)
			walk->next = (walk->next + walk->step) % (uint32_t) size;
		slots[walk->next] = walk->member;
		filled++;
	}
	return size;
}

void balance_weights(const struct balance_share *shares, size_t count, uint32_t *weights)
{
	uint64_t most = 0, sum = 0, base, whole = 0, given = 0;
	size_t spare;

	if (count == 0)
		return;
	for (size_t i = 0; i < count; i++) {
		sum += shares[i].connections;
		if (shares[i].connections > most)
			most = shares[i].connections;
	}
	base = sum / count > 0 ? sum / count : 1;
	for (size_t i = 0; i < count; i++)
		whole += base + most - shares[i].connections;
	spare = count < BALANCE_WEIGHT_WHOLE ? BALANCE_WEIGHT_WHOLE - count : 0;
	for (size_t i = 0; i < count; i++) {
		weights[i] = 1 + (uint32_t) (spare * (base + most - shares[i].connections) / whole);
		given += weights[i];
	}
	/* What rounding has left. */
	for (size_t i = 0; given < BALANCE_WEIGHT_WHOLE; i = (i + 1) % count, given++)
		weights[i]++;
}

static size_t fill_weighted(const struct balance_share *shares, size_t count, uint16_t *slots)
{
	AUTO(free) uint32_t *weights = mem_new0_array(uint32_t, count);
	size_t size = count * SLOTS_PER_MEMBER, at = 0;
	uint64_t sum = 0, passed = 0;

	if (size < SLOTS_MIN)
		size = SLOTS_MIN;
	if (size > BALANCE_SLOTS_MAX)
		size = BALANCE_SLOTS_MAX;
	balance_weights(shares, count, weights);
	for (size_t i = 0; i < count; i++)
		sum += weights[i];
	/* Each ends where its share of the whole does, so that rounding never adds up; one at
	 * least, for who has none would never be looked at again. */
	for (size_t i = 0; i < count; i++) {
		size_t end, last = size - (count - 1 - i);

		passed += weights[i];
		end = (size_t) (passed * size / sum);
		if (end <= at)
			end = at + 1;
		if (end > last)
			end = last;
		while (at < end)
			slots[at++] = (uint16_t) i;
	}
	return size;
}

size_t balance_fill(enum balance_algorithm algorithm, const struct balance_share *shares,
		    size_t count, uint16_t *slots)
{
	if (count == 0)
		return 0;
	if (count > BALANCE_SLOTS_MAX)
		count = BALANCE_SLOTS_MAX;
	if (count == 1) {
		slots[0] = 0;
		return 1;
	}
	switch (algorithm) {
	case BALANCE_SOURCE_HASH:
		return fill_table(shares, count, slots);
	case BALANCE_LEAST_CONNECTIONS:
		return fill_weighted(shares, count, slots);
	default:
		for (size_t i = 0; i < count; i++)
			slots[i] = (uint16_t) i;
		return count;
	}
}
