#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/health.h"

enum { SECOND_MS = 1000, DAY_MS = 24 * 3600 * 1000 };

static const struct health_check check = {
	.type = HEALTH_TYPE_EXEC,
	.interval_ms = 10 * SECOND_MS,
	.timeout_ms = SECOND_MS,
	.retries = 3,
	.start_period_ms = 60 * SECOND_MS,
};

/* A clock turned by hand. */
struct run {
	struct health health;
	int64_t age_ms;
	unsigned int changes, acts;
	struct health_verdict last;
};

static void step(struct run *run, bool passed)
{
	run->age_ms += check.interval_ms;
	health_next(&run->health, &check, passed, run->age_ms, &run->last);
	run->changes += run->last.changed;
	run->acts += run->last.act;
}

static void begin(struct run *run)
{
	*run = (struct run){};
	health_init(&run->health);
}

static void test_first_success_makes_it_healthy(void **state)
{
	struct run run;

	(void) state;
	begin(&run);
	assert_int_equal(run.health.state, HEALTH_STARTING);
	step(&run, true);
	assert_int_equal(run.health.state, HEALTH_HEALTHY);
	assert_true(run.last.changed);
	assert_false(run.last.act);
}

static void test_a_day_of_good_news_is_told_once(void **state)
{
	struct run run;

	(void) state;
	begin(&run);
	while (run.age_ms < DAY_MS)
		step(&run, true);
	assert_int_equal(run.changes, 1);
	assert_int_equal(run.acts, 0);
}

static void test_a_day_of_bad_news_is_told_twice(void **state)
{
	struct run run;

	(void) state;
	begin(&run);
	while (run.age_ms < DAY_MS)
		step(&run, false);
	/* The first failure, and the change to unhealthy. */
	assert_int_equal(run.changes, 2);
	assert_int_equal(run.acts, 1);
	assert_int_equal(run.health.state, HEALTH_UNHEALTHY);
}

static void test_failures_in_the_start_period_do_not_count(void **state)
{
	struct run run;

	(void) state;
	begin(&run);
	for (int i = 0; i < 5; i++)
		step(&run, false);
	assert_int_equal(run.age_ms, 50 * SECOND_MS);
	assert_int_equal(run.health.state, HEALTH_STARTING);
	assert_int_equal(run.health.streak, 0);
	step(&run, false);
	assert_int_equal(run.health.streak, 1);
	step(&run, false);
	step(&run, false);
	assert_int_equal(run.health.state, HEALTH_UNHEALTHY);
	assert_true(run.last.act);
}

static void test_a_success_ends_the_start_period(void **state)
{
	struct run run;

	(void) state;
	begin(&run);
	step(&run, false);
	step(&run, true);
	for (int i = 0; i < 3; i++)
		step(&run, false);
	assert_true(run.age_ms < check.start_period_ms);
	assert_int_equal(run.health.state, HEALTH_UNHEALTHY);
}

static void test_one_success_among_failures_resets_the_streak(void **state)
{
	struct run run;

	(void) state;
	begin(&run);
	run.age_ms = check.start_period_ms;
	for (int i = 0; i < 30; i++) {
		step(&run, false);
		step(&run, false);
		step(&run, true);
		assert_int_equal(run.health.streak, 0);
		assert_int_equal(run.health.state, HEALTH_HEALTHY);
	}
	assert_int_equal(run.acts, 0);
}

static void test_getting_well_and_sick_again_acts_again(void **state)
{
	struct run run;

	(void) state;
	begin(&run);
	run.age_ms = check.start_period_ms;
	for (unsigned int i = 1; i <= 4; i++) {
		for (int k = 0; k < 7; k++)
			step(&run, false);
		assert_int_equal(run.health.state, HEALTH_UNHEALTHY);
		assert_int_equal(run.acts, i);
		assert_int_equal(run.health.streak, 7);
		step(&run, true);
		assert_true(run.last.changed);
	}
}

static void test_the_streak_does_not_wrap(void **state)
{
	struct run run;

	(void) state;
	begin(&run);
	run.health = (struct health){ HEALTH_UNHEALTHY, UINT32_MAX, true, true };
	step(&run, false);
	assert_int_equal(run.health.streak, UINT32_MAX);
	assert_false(run.last.changed);
}

static void test_what_was_read_from_a_file_goes_on(void **state)
{
	struct run run;

	(void) state;
	/* The agent died after two failures of three. */
	begin(&run);
	run.health = (struct health){ HEALTH_HEALTHY, 2, true, true };
	run.age_ms = DAY_MS;
	step(&run, false);
	assert_int_equal(run.health.state, HEALTH_UNHEALTHY);
	assert_true(run.last.act);
}

static void test_the_schedule(void **state)
{
	(void) state;
	/* After a check that has just ended, exactly the interval; the rest of it later. */
	assert_int_equal(health_delay_ms(check.interval_ms, 0, 0), 10 * SECOND_MS);
	assert_int_equal(health_delay_ms(check.interval_ms, 0, UINT32_MAX), 10 * SECOND_MS);
	assert_int_equal(health_delay_ms(check.interval_ms, 9999, 123), 1);
}

static void test_the_start_has_an_interval_of_its_own(void **state)
{
	struct health_check quick = check;
	struct health health;

	(void) state;
	health_init(&health);
	assert_int_equal(health_interval_ms(&health, &check, 0), 10 * SECOND_MS);
	quick.start_interval_ms = SECOND_MS;
	assert_int_equal(health_interval_ms(&health, &quick, 0), SECOND_MS);
	assert_int_equal(health_interval_ms(&health, &quick, 60 * SECOND_MS - 1), SECOND_MS);
	assert_int_equal(health_interval_ms(&health, &quick, 60 * SECOND_MS), 10 * SECOND_MS);
	health.state = HEALTH_HEALTHY;
	assert_int_equal(health_interval_ms(&health, &quick, 0), 10 * SECOND_MS);
	health.state = HEALTH_UNHEALTHY;
	assert_int_equal(health_interval_ms(&health, &quick, 0), 10 * SECOND_MS);
}

static void spread(const struct health_check *of, int64_t since_ms, uint32_t longest_ms)
{
	unsigned int buckets[10] = {};

	/* A thousand, evenly drawn: each tenth of the range gets its share. */
	for (uint32_t i = 0; i < 1000; i++) {
		uint32_t delay =
			health_delay_ms(of->interval_ms, since_ms, i * (UINT32_MAX / 1000));

		assert_in_range(delay, 1, longest_ms);
		buckets[(delay - 1) * 10 / longest_ms]++;
	}
	for (unsigned int i = 0; i < 10; i++)
		assert_in_range(buckets[i], 80, 120);
}

static void test_a_thousand_are_spread(void **state)
{
	struct health_check rare = check;

	(void) state;
	spread(&check, DAY_MS, 10 * SECOND_MS);
	rare.interval_ms = 3600 * SECOND_MS;
	spread(&rare, 2 * DAY_MS, 30 * SECOND_MS);
	spread(&rare, -1, 2 * SECOND_MS + 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_success_makes_it_healthy),
		cmocka_unit_test(test_a_day_of_good_news_is_told_once),
		cmocka_unit_test(test_a_day_of_bad_news_is_told_twice),
		cmocka_unit_test(test_failures_in_the_start_period_do_not_count),
		cmocka_unit_test(test_a_success_ends_the_start_period),
		cmocka_unit_test(test_one_success_among_failures_resets_the_streak),
		cmocka_unit_test(test_getting_well_and_sick_again_acts_again),
		cmocka_unit_test(test_the_streak_does_not_wrap),
		cmocka_unit_test(test_what_was_read_from_a_file_goes_on),
		cmocka_unit_test(test_the_schedule),
		cmocka_unit_test(test_the_start_has_an_interval_of_its_own),
		cmocka_unit_test(test_a_thousand_are_spread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
