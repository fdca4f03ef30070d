#include "kern/statfs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>

#include "base/cleanup.h"

static void test_kinds(void **state)
{
	AUTO(fd_close) int proc = open("/proc/self/stat", O_PATH | O_CLOEXEC);
	AUTO(fd_close) int root = open("/", O_PATH | O_CLOEXEC);

	(void) state;
	assert_string_equal(statfs_made_up(proc), "proc");
	assert_null(statfs_made_up(root));
	assert_null(statfs_made_up(-1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
