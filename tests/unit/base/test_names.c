#include "base/names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "base/strv.h"

static void test_names_are_sorted(void **state)
{
	char dir[] = "/tmp/test-names-XXXXXX";
	AUTO(strv_free) char **names = NULL;
	AUTO(strv_free) char **again = NULL;

	(void) state;
	assert_non_null(mkdtemp(dir));
	AUTO(fd_close) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(names_list(fd, dir, &names, NULL), 0);
	assert_null(names[0]);
	assert_int_equal(mkdirat(fd, "b", 0700), 0);
	assert_int_equal(mkdirat(fd, ".a", 0700), 0);
	assert_int_equal(mkdirat(fd, "\xff", 0700), 0);
	/* Where the folder was read to is nobody's business: twice gives the same. */
	for (int i = 0; i < 2; i++) {
		strv_free(TAKE_PTR(again));
		assert_int_equal(names_list(fd, dir, &again, NULL), 0);
		assert_int_equal(strv_count(again), 3);
		assert_string_equal(again[0], ".a");
		assert_string_equal(again[1], "b");
		assert_string_equal(again[2], "\xff");
	}
	file_remove_tree(AT_FDCWD, dir);
}

static void test_no_folder(void **state)
{
	AUTO(strv_free) char **names = NULL;
	struct error err = {};

	(void) state;
	AUTO(fd_close) int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(names_list(fd, "shown", &names, &err), -ENOTDIR);
	assert_non_null(strstr(err.msg, "shown"));
	assert_null(names);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_are_sorted),
		cmocka_unit_test(test_no_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
