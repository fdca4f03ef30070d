#include "base/signame.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_signal(void **state)
{
	(void) state;
	assert_int_equal(signame_number("TERM"), SIGTERM);
	assert_int_equal(signame_number("sigkill"), SIGKILL);
	assert_int_equal(signame_number("9"), 9);
	assert_int_equal(signame_number("RTMIN+3"), 37);
	assert_int_equal(signame_number("SIGRTMAX-1"), 63);
	assert_int_equal(signame_number("RTMAX"), 64);
	assert_int_equal(signame_number("RTMIN-1"), -EINVAL);
	assert_int_equal(signame_number("RTMIN+99"), -EINVAL);
	assert_int_equal(signame_number("0"), -EINVAL);
	assert_int_equal(signame_number("65"), -EINVAL);
	assert_int_equal(signame_number("TERMINATE"), -EINVAL);
	assert_int_equal(signame_number(""), -EINVAL);
	assert_int_equal(signame_number(NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
