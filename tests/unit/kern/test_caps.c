#include "kern/caps.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_names(void **state)
{
	(void) state;
	assert_int_equal(caps_number("CAP_CHOWN"), 0);
	assert_int_equal(caps_number("cap_sys_admin"), 21);
	assert_int_equal(caps_number("CHECKPOINT_RESTORE"), 40);
	assert_int_equal(caps_number("CAP_NOTHING"), -EINVAL);
	assert_int_equal(caps_number(""), -EINVAL);
	assert_string_equal(caps_name(21), "CAP_SYS_ADMIN");
	assert_null(caps_name(CAPS_COUNT));
	for (unsigned int i = 0; i < CAPS_COUNT; i++)
		assert_int_equal(caps_number(caps_name(i)), i);
}

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
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
