#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kern/pidfd.h"

static void parses_names_that_look_like_fields(void **state)
{
	struct pidfd_stat stat;
	const char *text =
		"7 (a) R 1 (b) Z 42 7 7 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 123456 0 0 1 2 3 4 "
		"5 6 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 256\n";

	(void) state;
	assert_int_equal(pidfd_parse_stat(text, &stat), 0);
	assert_int_equal(stat.state, 'Z');
	assert_int_equal(stat.parent, 42);
	assert_int_equal(stat.start_time, 123456);
	assert_int_equal(stat.wait_status, 256);
	assert_int_equal(pidfd_parse_stat("", &stat), -EBADMSG);
	assert_int_equal(pidfd_parse_stat("7 (a", &stat), -EBADMSG);
	assert_int_equal(pidfd_parse_stat("7 (a) R x", &stat), -EBADMSG);
}

static void tells_processes_with_one_pid_apart(void **state)
{
	struct pidfd_stat stat;

	(void) state;
	assert_int_equal(pidfd_read_stat(getpid(), &stat), 0);
	assert_int_equal(stat.parent, getppid());
	AUTO(fd_close) int fd = pidfd_open_started(getpid(), stat.start_time);
	assert_true(fd >= 0);
	assert_int_equal(pidfd_open_started(getpid(), stat.start_time + 1), -ESRCH);
	assert_int_equal(pidfd_open_started(0, 0), -ESRCH);
}

static void knows_how_a_zombie_ended(void **state)
{
	pid_t pid = fork();
	int wait_status = 0;

	(void) state;
	if (pid == 0)
		pause();
	AUTO(fd_close) int fd = pidfd_open_pid(pid);
	assert_true(fd >= 0);
	assert_int_equal(pidfd_exit_status(fd, pid, &wait_status), -ENODATA);
	assert_int_equal(pidfd_send(fd, SIGTERM), 0);
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	assert_int_equal(poll(&poll_fd, 1, 10000), 1);
	assert_int_equal(pidfd_exit_status(fd, pid, &wait_status), 0);
	assert_true(WIFSIGNALED(wait_status));
	assert_int_equal(WTERMSIG(wait_status), SIGTERM);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(pidfd_send(fd, SIGTERM), -ESRCH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_names_that_look_like_fields),
		cmocka_unit_test(tells_processes_with_one_pid_apart),
		cmocka_unit_test(knows_how_a_zombie_ended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
