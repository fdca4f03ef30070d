#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/error.h"

static void says_what_and_why(void **state)
{
	struct error err = {};

	(void) state;
	assert_int_equal(error_set(&err, -ENOENT, "open %s", "/x"), -ENOENT);
	assert_int_equal(err.code, -ENOENT);
	assert_string_equal(err.msg, "open /x: No such file or directory");
	assert_int_equal(error_wrap(&err, -ENOENT, "image %s", "web"), -ENOENT);
	assert_string_equal(err.msg, "image web: open /x: No such file or directory");
	assert_int_equal(error_say(&err, -EINVAL, "name: must be short"), -EINVAL);
	assert_string_equal(err.msg, "name: must be short");
}

static void works_without_a_place(void **state)
{
	(void) state;
	assert_int_equal(error_set(NULL, -EIO, "x"), -EIO);
	assert_int_equal(error_say(NULL, -EIO, "x"), -EIO);
	assert_int_equal(error_wrap(NULL, -EIO, "x"), -EIO);
}

static void cuts_long_words(void **state)
{
	struct error err = {};
	char words[1000];

	(void) state;
	memset(words, 'a', sizeof(words));
	words[sizeof(words) - 1] = '\0';
	error_set(&err, -EIO, "%s", words);
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
	error_wrap(&err, -EIO, "%s", words);
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
	error_wrap(&err, -EIO, "%.470s", words);
	assert_true(strlen(err.msg) < sizeof(err.msg));
}

static void stays_on_one_line(void **state)
{
	struct error err = {};

	(void) state;
	error_say(&err, -EINVAL, "name '%s'", "a\nb\033[2J\x7f \t");
	assert_string_equal(err.msg, "name 'a?b?[2J? ?'");
	error_wrap(&err, -EINVAL, "file '%s'", "x\r");
	assert_string_equal(err.msg, "file 'x?': name 'a?b?[2J? ?'");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_what_and_why),
		cmocka_unit_test(works_without_a_place),
		cmocka_unit_test(cuts_long_words),
		cmocka_unit_test(stays_on_one_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
