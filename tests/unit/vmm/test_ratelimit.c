#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vmm/ratelimit.h"

#define SECOND 1000000000ull

static void test_unlimited(void **state)
{
	struct ratelimit limit;
	uint64_t due = 7;

	(void) state;
	ratelimit_init(&limit, NULL);
	assert_false(ratelimit_is_limited(&limit));
	for (unsigned int i = 0; i < 1000; i++)
		assert_true(ratelimit_take(&limit, SECOND, UINT64_MAX, &due));
	assert_int_equal(due, 7);
}

static void test_ops(void **state)
{
	struct ratelimit_options options = { .ops_per_second = 100, .ops_burst = 10 };
	struct ratelimit limit;
	uint64_t due, now = 5 * SECOND;
	unsigned int passed = 0;

	(void) state;
	ratelimit_init(&limit, &options);
	assert_true(ratelimit_is_limited(&limit));
	for (unsigned int i = 0; i < 10; i++)
		assert_true(ratelimit_take(&limit, now, 1, &due));
	assert_false(ratelimit_take(&limit, now, 1, &due));
	/* The next one is due after one hundredth of a second, and not before. */
	assert_int_equal(due, now + 1);
	now += 1;
	assert_true(ratelimit_take(&limit, now, 1, &due));
	assert_false(ratelimit_take(&limit, now, 1, &due));
	assert_true(due > now && due <= now + SECOND / 100);
	/* Over ten seconds: the rate and one burst. */
	for (uint64_t end = now + 10 * SECOND; now < end;) {
		if (ratelimit_take(&limit, now, 1, &due))
			passed++;
		else
			now = due;
	}
	assert_in_range(passed, 999, 1002);
	/* Idle time does not save up more than one burst. */
	now += 1000 * SECOND;
	for (passed = 0; ratelimit_take(&limit, now, 1, &due);)
		passed++;
	assert_int_equal(passed, 10);
}

static void test_bytes(void **state)
{
	struct ratelimit_options options = { .bytes_per_second = 1 << 20, .bytes_burst = 4096 };
	struct ratelimit limit;
	uint64_t due, now = SECOND, sent = 0;

	(void) state;
	ratelimit_init(&limit, &options);
	/* Larger than the burst: passes, and the next one waits for all of it. */
	assert_true(ratelimit_take(&limit, now, 1 << 20, &due));
	assert_false(ratelimit_take(&limit, now, 1, &due));
	assert_true(due > now + SECOND * 99 / 100 && due <= now + SECOND);
	for (uint64_t end = now + 11 * SECOND; now < end;) {
		if (ratelimit_take(&limit, now, 1500, &due))
			sent += 1500;
		else
			now = due;
	}
	assert_in_range(sent, (10 << 20) - 8192, (10 << 20) + 8192);
	/* A size that no guest can have costs a lot, but nothing overflows. */
	assert_false(ratelimit_take(&limit, now - 1, 0, &due));
	assert_true(ratelimit_take(&limit, now, UINT64_MAX, &due));
	assert_false(ratelimit_take(&limit, now, 1, &due));
	assert_true(due >= now + 8000 * SECOND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unlimited),
		cmocka_unit_test(test_ops),
		cmocka_unit_test(test_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
