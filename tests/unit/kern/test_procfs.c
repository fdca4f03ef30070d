#include "kern/procfs.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/file.h"

static void test_own_files(void **state)
{
	AUTO(fd_close) int proc = procfs_open();
	AUTO(free) char *text = NULL;

	(void) state;
	assert_true(proc >= 0);
	assert_int_equal(procfs_write_self(proc, "comm", "renamed"), 0);
	assert_int_equal(file_read(AT_FDCWD, "/proc/thread-self/comm", 64, &text, NULL), 0);
	assert_string_equal(text, "renamed\n");
	assert_int_equal(procfs_write_self(proc, "no-such-file", "x"), -ENOENT);
}

/* Neither links nor ways up, even those of the kernel itself. */
static void test_detours(void **state)
{
	AUTO(fd_close) int proc = procfs_open();

	(void) state;
	assert_int_equal(procfs_write(proc, "self/comm", "x"), -ELOOP);
	assert_int_equal(procfs_write(proc, "../etc/hostname", "x"), -EXDEV);
	assert_int_equal(procfs_write(proc, "/proc/self/comm", "x"), -EXDEV);
	assert_int_equal(procfs_write_self(proc, "cwd/x", "x"), -ELOOP);
	assert_int_equal(procfs_write_self(proc, "fd/0", "x"), -ELOOP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_files),
		cmocka_unit_test(test_detours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
