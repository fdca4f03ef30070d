#include "kern/ns.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
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
	assert_true(ns_differs(0x7fffffff, CLONE_NEWPID) < 0);
}

static void test_differing(void **state)
{
	struct ns_clone clone = { .flags = CLONE_NEWUSER | CLONE_NEWUTS,
				  .cgroup_fd = -1,
				  .pidfd = -1 };
	const uint64_t asked = CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWPID;
	uint64_t found = 0;
	pid_t pid = ns_clone(&clone);

	(void) state;
	if (pid < 0)
		skip(); /* user namespaces are switched off for us here */
	if (pid == 0)
		for (;;)
			pause();
	assert_int_equal(ns_differing(pid, asked, &found), 0);
	assert_int_equal(found, CLONE_NEWUSER | CLONE_NEWUTS);
	assert_int_equal(ns_differing(pid, CLONE_NEWNET, &found), 0);
	assert_int_equal(found, 0);
	assert_int_equal(ns_differs(pid, CLONE_NEWUTS), 1);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close(clone.pidfd);
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

struct shared {
	pid_t pid;
	char text[64];
};

static void work_in_our_memory(void *data)
{
	struct shared *shared = data;
	char local[4096];

	/* Deep enough on the stack that a damaged frame would be noticed. */
	memset(local, 'x', sizeof(local));
	shared->pid = getpid();
	snprintf(shared->text, sizeof(shared->text), "%.8s", local);
	_exit(7);
}

static void test_vfork(void **state)
{
	struct ns_clone clone = { .cgroup_fd = -1, .pidfd = -1 };
	struct shared shared = {};
	siginfo_t info = {};
	pid_t pid;

	(void) state;
	for (int i = 0; i < 10; i++) {
		pid = ns_vfork(&clone, work_in_our_memory, &shared);
		assert_true(pid > 0 && pid == shared.pid);
		assert_string_equal(shared.text, "xxxxxxxx");
		assert_int_equal(waitid(P_PIDFD, (id_t) clone.pidfd, &info, WEXITED), 0);
		assert_int_equal(info.si_status, 7);
		close(clone.pidfd);
	}
	clone.cgroup_fd = open("/", O_PATH | O_CLOEXEC);
	assert_true(ns_vfork(&clone, work_in_our_memory, &shared) < 0);
	close(clone.cgroup_fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_differing),
		cmocka_unit_test(test_clone),
		cmocka_unit_test(test_vfork),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
