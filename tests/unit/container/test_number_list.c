#include "container/number_list.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_good(void **state)
{
	struct number_set set;

	(void) state;
	assert_int_equal(number_list_parse("0-3,7", &set), 0);
	assert_int_equal(set.words[0], 0x8f);
	assert_int_equal(number_list_parse("64,1023", &set), 0);
	assert_int_equal(set.words[0], 0);
	assert_int_equal(set.words[1], 1);
	assert_true(set.words[15] == 1UL << 63);
	assert_int_equal(number_list_parse("5-5", &set), 0);
	assert_int_equal(set.words[0], 32);
	assert_int_equal(number_list_parse("", &set), 0);
	assert_int_equal(set.words[0], 0);
}

static void test_bad(void **state)
{
	static const char *const bad[] = {
		",", "1,", "-1", "1-", "3-1", "a", "1 2", "1,,2", "0x1"
	};
	struct number_set set = { { 42 } };

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(number_list_parse(bad[i], &set), -EINVAL);
	assert_int_equal(number_list_parse("1024", &set), -ERANGE);
	assert_int_equal(number_list_parse("99999999999999999999", &set), -ERANGE);
	assert_int_equal(set.words[0], 42);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
