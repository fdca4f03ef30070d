#include "container/resources.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_weights(void **state)
{
	(void) state;
	assert_int_equal(resources_weight_of_shares(2), 1);
	assert_int_equal(resources_weight_of_shares(1024), 100);
	assert_int_equal(resources_weight_of_shares(1), 1);
	assert_int_equal(resources_weight_of_shares(3), 2);
	assert_int_equal(resources_weight_of_shares(2048), 174);
	assert_int_equal(resources_weight_of_shares(262144), 10000);
	assert_int_equal(resources_weight_of_shares(0), 1);
	assert_int_equal(resources_weight_of_shares(UINT64_MAX), 10000);
	assert_int_equal(resources_io_weight(10), 1);
	assert_int_equal(resources_io_weight(1000), 10000);
	assert_int_equal(resources_io_weight(0), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_weights),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
