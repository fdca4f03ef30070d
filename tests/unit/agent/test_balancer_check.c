#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/balancer_check.h"

static const struct balancer_check check = {
	.type = BALANCER_CHECK_TCP, .interval_ms = 5000, .timeout_ms = 100, .rise = 2, .fall = 3
};

static void test_new_one_serves_after_its_first_pass(void **state)
{
	struct balancer_health health;

	(void) state;
	balancer_health_init(&health, &check, false);
	assert_false(balancer_health_serves(&health));
	assert_int_equal(balancer_health_delay_ms(&health, &check), 1000);
	assert_false(balancer_health_next(&health, &check, false));
	assert_true(balancer_health_next(&health, &check, true));
	assert_true(balancer_health_serves(&health));
	assert_int_equal(balancer_health_delay_ms(&health, &check), 5000);
}

static void test_new_one_that_never_answers(void **state)
{
	struct balancer_health health;

	(void) state;
	balancer_health_init(&health, &check, false);
	assert_false(balancer_health_next(&health, &check, false));
	assert_false(balancer_health_next(&health, &check, false));
	assert_true(balancer_health_next(&health, &check, false));
	assert_int_equal(health.state, HEALTH_UNHEALTHY);
}

static void test_falls_and_rises(void **state)
{
	struct balancer_health health;

	(void) state;
	balancer_health_init(&health, &check, true);
	assert_true(balancer_health_serves(&health));
	/* Failures count in a row only. */
	assert_false(balancer_health_next(&health, &check, false));
	assert_false(balancer_health_next(&health, &check, false));
	assert_false(balancer_health_next(&health, &check, true));
	assert_false(balancer_health_next(&health, &check, false));
	assert_false(balancer_health_next(&health, &check, false));
	assert_true(balancer_health_next(&health, &check, false));
	assert_false(balancer_health_serves(&health));
	assert_false(balancer_health_next(&health, &check, true));
	assert_false(balancer_health_next(&health, &check, false));
	assert_false(balancer_health_next(&health, &check, true));
	assert_true(balancer_health_next(&health, &check, true));
	assert_true(balancer_health_serves(&health));
}

static void test_without_check(void **state)
{
	static const struct balancer_check none = { .type = BALANCER_CHECK_NONE };
	struct balancer_health health;

	(void) state;
	balancer_health_init(&health, &none, false);
	assert_true(balancer_health_serves(&health));
	assert_false(balancer_health_next(&health, &none, false));
	/* A check that begins takes nobody out before it has failed. */
	balancer_health_change(&health, &check);
	assert_int_equal(health.state, HEALTH_HEALTHY);
	balancer_health_change(&health, &none);
	assert_int_equal(health.state, HEALTH_NONE);
}

static void test_port(void **state)
{
	struct balancer_listen listens[] = {
		{ .protocol = PROTOCOL_UDP, .port = 53, .target_port = 5353 },
		{ .protocol = PROTOCOL_TCP, .port = 80, .target_port = 8080 },
	};
	struct balancer_spec spec = { .listens = listens, .listen_count = 2 };

	(void) state;
	assert_int_equal(balancer_check_port(&spec), 8080);
	spec.check.port = 9;
	assert_int_equal(balancer_check_port(&spec), 9);
	spec.check.port = 0;
	spec.listen_count = 1;
	assert_int_equal(balancer_check_port(&spec), 5353);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_one_serves_after_its_first_pass),
		cmocka_unit_test(test_new_one_that_never_answers),
		cmocka_unit_test(test_falls_and_rises),
		cmocka_unit_test(test_without_check),
		cmocka_unit_test(test_port),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
