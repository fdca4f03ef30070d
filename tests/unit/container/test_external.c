#include "container/external.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const char text[] = "10 1 0:1 / / rw - overlay o rw\n"
			   "11 10 0:2 / /data rw - ext4 d rw\n"
			   "12 11 0:3 / /data/a/b rw - ext4 d rw\n"
			   "13 12 0:4 / /data/a/b/c rw - ext4 d rw\n"
			   "20 21 0:5 / /x rw - ext4 d rw\n"
			   "21 20 0:5 / /x/y rw - ext4 d rw\n"
			   "30 11 0:5 / /else rw - ext4 d rw\n";

static void test_above(void **state)
{
	AUTO(mountinfo_done) struct mountinfo info = {};
	struct external_mount roles[7] = { { .role = EXTERNAL_ROOT }, { .role = EXTERNAL_BIND } };
	const char *below = NULL;

	(void) state;
	assert_int_equal(mountinfo_parse(text, &info), 0);
	assert_int_equal(external_above(&info, roles, 1, &below), 0);
	assert_string_equal(below, "data");
	assert_int_equal(external_above(&info, roles, 2, &below), 1);
	assert_string_equal(below, "a/b");
	/* Through one that is not known either. */
	assert_int_equal(external_above(&info, roles, 3, &below), 1);
	assert_string_equal(below, "a/b/c");
	/* Nothing above, and a circle. */
	assert_int_equal(external_above(&info, roles, 0, &below), -1);
	assert_int_equal(external_above(&info, roles, 4, &below), -1);
	/* A place that does not lie where its mount does. */
	assert_int_equal(external_above(&info, roles, 6, &below), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_above),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
