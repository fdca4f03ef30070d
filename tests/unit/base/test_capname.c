#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/capability.h>

#include "base/capname.h"

static void test_names_and_numbers(void **state)
{
	(void) state;
	assert_int_equal(capname_number("CAP_CHOWN"), CAP_CHOWN);
	assert_int_equal(capname_number("cap_sys_admin"), CAP_SYS_ADMIN);
	assert_int_equal(capname_number("CHECKPOINT_RESTORE"), CAP_CHECKPOINT_RESTORE);
	assert_int_equal(capname_number("CAP_NOTHING"), -EINVAL);
	assert_int_equal(capname_number("CAP_"), -EINVAL);
	assert_int_equal(capname_number(""), -EINVAL);
	assert_string_equal(capname(CAP_SYS_ADMIN), "CAP_SYS_ADMIN");
	assert_null(capname(CAPNAME_COUNT));
	for (unsigned int i = 0; i < CAPNAME_COUNT; i++)
		assert_int_equal(capname_number(capname(i)), i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_and_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
