#include "kern/proc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/cleanup.h"

static void stat_is_read_behind_the_name(void **state)
{
	struct proc proc = {};
	long ticks = sysconf(_SC_CLK_TCK), page = sysconf(_SC_PAGESIZE);

	(void) state;
	assert_int_equal(proc_parse_stat("7 (a) R 1) 9 (b) S 1 7 7 0 -1 4194304 1 2 3 4 "
					 "150 50 0 0 20 0 1 0 99 1000 12 18446744073709551615 1",
					 &proc),
			 0);
	assert_string_equal(proc.name, "a) R 1) 9 (b");
	assert_int_equal(proc.state, 'S');
	assert_int_equal(proc.cpu_ms, 200 * 1000 / ticks);
	assert_int_equal(proc.rss_bytes, 12 * page);
	assert_int_equal(proc_parse_stat("", &proc), -EINVAL);
	assert_int_equal(proc_parse_stat("1 (x) S 1 2", &proc), -EINVAL);
	assert_int_equal(proc_parse_stat(")1(", &proc), -EINVAL);
}

static void status_tells_user_and_number_inside(void **state)
{
	struct proc proc = { .inside_pid = 77 };

	(void) state;
	assert_int_equal(
		proc_parse_status("Name:\tx\\nUid:\t9 9\nUid:\t1\t2\t3\t4\nNSpid:\t77\t5\t1\n",
				  &proc),
		0);
	assert_int_equal(proc.uid, 2);
	assert_int_equal(proc.inside_pid, 5);
	assert_int_equal(proc_parse_status("Uid:\t1\t2\t3\t4\nNSpid:\t77\n", &proc), 0);
	assert_int_equal(proc.inside_pid, 5);
	assert_int_equal(proc_parse_status("Name:\tx\n", &proc), -EINVAL);
}

static void reads_ourselves(void **state)
{
	AUTO(fd_close) int proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct proc proc;

	(void) state;
	assert_int_equal(proc_read(proc_fd, getpid(), &proc), 0);
	assert_int_equal(proc.pid, getpid());
	assert_int_equal(proc.uid, geteuid());
	assert_true(proc.rss_bytes > 0);
	assert_true(proc.command_size > 0);
	assert_int_equal(proc_read(proc_fd, 0x7fffffff, &proc), -ESRCH);
}

static void command_is(const struct proc *proc, const char *text)
{
	AUTO(free) char *command = proc_command(proc);

	assert_string_equal(command, text);
}

static void command_is_made_harmless(void **state)
{
	struct proc proc = { .name = "k\nworker" };

	(void) state;
	command_is(&proc, "[k\\x0aworker]");
	memcpy(proc.command, "sh\0-c\0a\x1b", 9);
	proc.command_size = 9;
	command_is(&proc, "sh -c a\\x1b");
	memset(proc.command, 'a', sizeof(proc.command));
	proc.command_size = sizeof(proc.command);
	AUTO(free) char *cut = proc_command(&proc);
	assert_int_equal(strlen(cut), sizeof(proc.command) + strlen("…"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stat_is_read_behind_the_name),
		cmocka_unit_test(status_tells_user_and_number_inside),
		cmocka_unit_test(reads_ourselves),
		cmocka_unit_test(command_is_made_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
