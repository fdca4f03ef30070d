#include "kern/caps.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_own(void **state)
{
	struct caps caps;

	(void) state;
	assert_int_equal(caps_get(&caps), 0);
	assert_true(caps_all() & 1);
	assert_true((caps.effective & ~caps.permitted) == 0);
	assert_true((caps.permitted & ~caps_all()) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
