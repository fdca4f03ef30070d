#include "codec/mountinfo.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

static const char text[] =
	"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue\n"
	"40 36 0:55 / / rw - overlay overlay rw\n"
	"41 40 0:4 /a\\040b /with\\040space\\134x rw shared:3 - proc proc rw\n";

static void test_lines(void **state)
{
	AUTO(mountinfo_done) struct mountinfo info = {};

	(void) state;
	assert_int_equal(mountinfo_parse(text, &info), 0);
	assert_int_equal(info.count, 3);
	assert_int_equal(info.list[0].id, 36);
	assert_int_equal(info.list[0].parent, 35);
	assert_int_equal(info.list[0].dev, makedev(98, 0));
	assert_string_equal(info.list[0].root, "/mnt1");
	assert_string_equal(info.list[0].place, "/mnt2");
	assert_string_equal(info.list[0].type, "ext3");
	assert_string_equal(info.list[2].root, "/a b");
	assert_string_equal(info.list[2].place, "/with space\\x");
	assert_ptr_equal(mountinfo_find(&info, 40), &info.list[1]);
	assert_null(mountinfo_find(&info, 7));
}

static void test_nothing(void **state)
{
	AUTO(mountinfo_done) struct mountinfo info = {};

	(void) state;
	assert_int_equal(mountinfo_parse("", &info), 0);
	assert_int_equal(info.count, 0);
}

static void test_bad_lines(void **state)
{
	static const char *const bad[] = {
		"x",
		"\n",
		"1 2",
		"1 2 3 / / rw - proc proc rw\n",
		"1 2 0: / / rw - proc proc rw\n",
		"1 2 0:4 / / rw proc proc rw\n",
		"1 2 0:4 / / rw\n1 2 0:4 / / rw - proc\n",
		"-1 2 0:4 / / rw - proc proc rw\n",
		"99999999999 2 0:4 / / rw - proc proc rw\n",
		"1 2 0:4 / / rw - \n",
	};

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct mountinfo info;

		if (mountinfo_parse(bad[i], &info) != -EBADMSG)
			fail_msg("number %zu was taken", i);
	}
}

static void test_below(void **state)
{
	(void) state;
	assert_string_equal(mountinfo_below("/a/b/c", "/a"), "b/c");
	assert_string_equal(mountinfo_below("/a", "/a"), "");
	assert_string_equal(mountinfo_below("/a/b", "/"), "a/b");
	assert_string_equal(mountinfo_below("/", "/"), "");
	assert_null(mountinfo_below("/ab", "/a"));
	assert_null(mountinfo_below("/", "/a"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_bad_lines),
		cmocka_unit_test(test_below),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
