#include "kern/ns.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"

static void test_open(void **state)
{
	AUTO(fd_close) int fd = ns_open("/proc/self/ns/uts", CLONE_NEWUTS);

	(void) state;
	assert_true(fd >= 0);
	assert_int_equal(ns_open("/proc/self/ns/uts", CLONE_NEWNET), -EINVAL);
	assert_int_equal(ns_open("/dev/null", CLONE_NEWNET), -EINVAL);
	assert_int_equal(ns_open("/nothing", CLONE_NEWNET), -ENOENT);
	assert_string_equal(ns_file_name(CLONE_NEWNS), "mnt");
	assert_null(ns_file_name(0));
	assert_int_equal(ns_differs(getpid(), CLONE_NEWPID), 0);
}

static void test_clone(void **state)
{
	struct ns_clone clone = { .cgroup_fd = -1, .pidfd = -1 };
	pid_t pid = ns_clone(&clone);
	siginfo_t info = {};

	(void) state;
	if (pid == 0)
		_exit(9);
	assert_true(pid > 0 && clone.pidfd >= 0);
	assert_int_equal(waitid(P_PIDFD, (id_t) clone.pidfd, &info, WEXITED), 0);
	assert_int_equal(info.si_status, 9);
	close(clone.pidfd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_clone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
