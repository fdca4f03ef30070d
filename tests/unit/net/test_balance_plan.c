#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "net/balance_plan.h"

enum { MANY = 1000 };

static void count_slots(const uint16_t *slots, size_t size, size_t *counts, size_t members)
{
	memset(counts, 0, members * sizeof(*counts));
	for (size_t i = 0; i < size; i++) {
		assert_in_range(slots[i], 0, members - 1);
		counts[slots[i]]++;
	}
}

static void make_shares(struct balance_share *shares, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint8_t address[4] = { 10, 0, (uint8_t) (i >> 8), (uint8_t) i };

		shares[i] = (struct balance_share){ .hash = balance_hash(address, 4) };
	}
}

static void test_nobody_and_one(void **state)
{
	struct balance_share share = { .hash = 7 };
	uint16_t slots[BALANCE_SLOTS_MAX];

	(void) state;
	for (int algorithm = BALANCE_ROUND_ROBIN; algorithm <= BALANCE_SOURCE_HASH; algorithm++) {
		assert_int_equal(balance_fill(algorithm, &share, 0, slots), 0);
		assert_int_equal(balance_fill(algorithm, &share, 1, slots), 1);
		assert_int_equal(slots[0], 0);
	}
}

static void test_by_turns(void **state)
{
	static struct balance_share shares[MANY];
	uint16_t slots[BALANCE_SLOTS_MAX];

	(void) state;
	assert_int_equal(balance_fill(BALANCE_ROUND_ROBIN, shares, MANY, slots), MANY);
	for (size_t i = 0; i < MANY; i++)
		assert_int_equal(slots[i], i);
}

static void test_hash_is_even(void **state)
{
	static const size_t sizes[] = { 2, 3, 7, 50, MANY };
	static struct balance_share shares[MANY];
	static size_t counts[MANY];
	uint16_t slots[BALANCE_SLOTS_MAX];

	(void) state;
	make_shares(shares, MANY);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t size = balance_fill(BALANCE_SOURCE_HASH, shares, sizes[i], slots);

		assert_in_range(size, sizes[i] * 4, BALANCE_SLOTS_MAX);
		count_slots(slots, size, counts, sizes[i]);
		for (size_t k = 0; k < sizes[i]; k++)
			assert_in_range(counts[k], size / sizes[i], size / sizes[i] + 1);
	}
}

static void test_hash_keeps_others(void **state)
{
	enum { COUNT = 8, GONE = 3 };
	struct balance_share shares[COUNT], rest[COUNT - 1], turned[COUNT];
	uint16_t before[BALANCE_SLOTS_MAX], after[BALANCE_SLOTS_MAX];
	size_t size, moved = 0, kept = 0;

	(void) state;
	make_shares(shares, COUNT);
	for (size_t i = 0, k = 0; i < COUNT; i++)
		if (i != GONE)
			rest[k++] = shares[i];
	size = balance_fill(BALANCE_SOURCE_HASH, shares, COUNT, before);
	assert_int_equal(balance_fill(BALANCE_SOURCE_HASH, rest, COUNT - 1, after), size);
	for (size_t i = 0; i < size; i++) {
		if (before[i] == GONE)
			continue;
		kept++;
		moved += shares[before[i]].hash != rest[after[i]].hash;
	}
	assert_true(moved * 4 < kept);
	/* The order in which they are given means nothing. */
	for (size_t i = 0; i < COUNT; i++)
		turned[i] = shares[COUNT - 1 - i];
	assert_int_equal(balance_fill(BALANCE_SOURCE_HASH, turned, COUNT, after), size);
	for (size_t i = 0; i < size; i++)
		assert_true(shares[before[i]].hash == turned[after[i]].hash);
}

static void test_weights(void **state)
{
	struct balance_share shares[3] = {};
	uint32_t weights[3];

	(void) state;
	balance_weights(shares, 3, weights);
	assert_in_range(weights[0], 333, 334);
	assert_int_equal(weights[0] + weights[1] + weights[2], BALANCE_WEIGHT_WHOLE);
	shares[0].connections = 100;
	shares[1].connections = 0;
	balance_weights(shares, 2, weights);
	assert_in_range(weights[0], 245, 255);
	assert_int_equal(weights[0] + weights[1], BALANCE_WEIGHT_WHOLE);
	/* One that is new gets more, but not everything. */
	shares[0].connections = shares[1].connections = 100;
	shares[2].connections = 0;
	balance_weights(shares, 3, weights);
	assert_true(weights[2] > weights[0] * 2 && weights[2] < weights[0] * 4);
	shares[0].connections = UINT32_MAX;
	shares[1].connections = UINT32_MAX;
	balance_weights(shares, 3, weights);
	assert_true(weights[0] >= 1 && weights[2] > weights[0]);
	assert_int_equal(weights[0] + weights[1] + weights[2], BALANCE_WEIGHT_WHOLE);
	balance_weights(shares, 0, weights);
}

static void test_weighted_slots(void **state)
{
	static struct balance_share shares[MANY];
	static size_t counts[MANY];
	uint16_t slots[BALANCE_SLOTS_MAX];
	size_t size;

	(void) state;
	shares[0].connections = 100;
	size = balance_fill(BALANCE_LEAST_CONNECTIONS, shares, 2, slots);
	count_slots(slots, size, counts, 2);
	assert_in_range(counts[0], size / 4 - 1, size / 4 + 1);
	/* However loaded, however many: everyone has a slot. */
	for (size_t i = 0; i < MANY; i++)
		shares[i].connections = i % 7 == 0 ? 0 : 1000000;
	size = balance_fill(BALANCE_LEAST_CONNECTIONS, shares, MANY, slots);
	assert_int_equal(size, BALANCE_SLOTS_MAX);
	count_slots(slots, size, counts, MANY);
	for (size_t i = 0; i < MANY; i++)
		assert_true(counts[i] >= 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nobody_and_one), cmocka_unit_test(test_by_turns),
		cmocka_unit_test(test_hash_is_even),   cmocka_unit_test(test_hash_keeps_others),
		cmocka_unit_test(test_weights),        cmocka_unit_test(test_weighted_slots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
