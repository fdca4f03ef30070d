#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/strv.h"
#include "net/mix_internal.h"

static size_t count(const struct mix *mix, const char *bridge)
{
	AUTO(free) uint32_t *list = NULL;

	return mix_combinations(mix, bridge, &list);
}

static void combinations_are_counted(void **state)
{
	struct mix mix = {};
	AUTO(free) uint32_t *list = NULL;

	(void) state;
	assert_int_equal(mix_combinations(&mix, "br-a", &list), 0);
	assert_null(list);
	for (int i = 0; i < 3; i++)
		mix_count(&mix, "br-a", 7, 1);
	mix_count(&mix, "br-a", 8, 1);
	mix_count(&mix, "br-b", 8, 1);
	assert_int_equal(count(&mix, "br-a"), 2);
	assert_int_equal(count(&mix, "br-b"), 1);
	mix_count(&mix, "br-a", 8, -1);
	assert_int_equal(mix_combinations(&mix, "br-a", &list), 1);
	assert_int_equal(list[0], 7);
	for (int i = 0; i < 2; i++)
		mix_count(&mix, "br-a", 7, -1);
	assert_int_equal(count(&mix, "br-a"), 1);
	mix_count(&mix, "br-a", 7, -1);
	assert_int_equal(count(&mix, "br-a"), 0);
	assert_int_equal(count(&mix, "br-b"), 1);
	mix_done(&mix);
}

static void bridges_of_a_combination(void **state)
{
	struct mix mix = {};
	AUTO(strv_free) char **none = mix_bridges(&mix, 7), **two = NULL;

	(void) state;
	assert_null(none);
	mix_count(&mix, "br-a", 7, 1);
	mix_count(&mix, "br-b", 7, 1);
	mix_count(&mix, "br-c", 8, 1);
	two = mix_bridges(&mix, 7);
	assert_int_equal(strv_count(two), 2);
	assert_true(strv_contains(two, "br-a") && strv_contains(two, "br-b"));
	mix_done(&mix);
}

static void strangers(void **state)
{
	struct mix mix = {};

	(void) state;
	assert_false(mix_has_stranger(&mix, "br-a"));
	mix_set_stranger(&mix, "11", NULL);
	mix_set_stranger(&mix, "11", "br-a");
	mix_set_stranger(&mix, "11", "br-a");
	mix_set_stranger(&mix, "22", "br-a");
	assert_true(mix_has_stranger(&mix, "br-a"));
	mix_set_stranger(&mix, "11", "br-b");
	assert_true(mix_has_stranger(&mix, "br-a") && mix_has_stranger(&mix, "br-b"));
	mix_set_stranger(&mix, "22", NULL);
	assert_false(mix_has_stranger(&mix, "br-a"));
	mix_done(&mix);
}

static void logs(void **state)
{
	struct mix mix = {};

	(void) state;
	assert_false(mix_is_logged(&mix, "br-a"));
	mix_set_logged(&mix, "11", NULL);
	mix_set_logged(&mix, "11", "br-a");
	assert_true(mix_is_logged(&mix, "br-a"));
	assert_false(mix_is_logged(&mix, "br-b"));
	assert_false(mix_has_stranger(&mix, "br-a"));
	mix_set_logged(&mix, "11", NULL);
	assert_false(mix_is_logged(&mix, "br-a"));
	mix_set_logged(&mix, "11", "br-a");
	mix_done(&mix);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(combinations_are_counted),
		cmocka_unit_test(bridges_of_a_combination),
		cmocka_unit_test(strangers),
		cmocka_unit_test(logs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
