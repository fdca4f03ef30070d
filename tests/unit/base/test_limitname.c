#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sys/resource.h>

#include "base/limitname.h"

static void test_names_and_numbers(void **state)
{
	(void) state;
	assert_int_equal(limitname_number("RLIMIT_NOFILE"), RLIMIT_NOFILE);
	assert_int_equal(limitname_number("RLIMIT_X"), -EINVAL);
	assert_int_equal(limitname_number("nofile"), -EINVAL);
	assert_int_equal(limitname_number(""), -EINVAL);
	assert_string_equal(limitname(RLIMIT_STACK), "RLIMIT_STACK");
	assert_null(limitname(RLIMIT_NLIMITS));
	assert_null(limitname(-1));
	for (int i = 0; i < (int) RLIMIT_NLIMITS; i++)
		assert_int_equal(limitname_number(limitname(i)), i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_and_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
