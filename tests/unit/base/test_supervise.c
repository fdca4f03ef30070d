#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/supervise.h"

/* The programs are small shell scripts that tell what they do through a pipe on fd 9. */
static int tell[2];

static pid_t run_supervisor(struct supervise_program *programs, unsigned int count)
{
	pid_t pid = fork();

	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, STDERR_FILENO);
		dup2(tell[1], 9);
		int r = supervise_run(programs, count, NULL);
		_exit(r < 0 ? 99 : r);
	}
	return pid;
}

static int exit_code_of(pid_t pid)
{
	int status = -1;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* The next line that a program has written. */
static void hear(char *ret, size_t size)
{
	size_t n = 0;

	while (n + 1 < size && read(tell[0], ret + n, 1) == 1 && ret[n] != '\n')
		n++;
	ret[n] = '\0';
}

static int set_up(void **state)
{
	(void) state;
	return pipe(tell);
}

static int tear_down(void **state)
{
	(void) state;
	close(tell[0]);
	close(tell[1]);
	return 0;
}

static void starts_again_and_stops(void **state)
{
	char *argv[] = { (char *) "/bin/sh", (char *) "-c", (char *) "echo $$ >&9; exec sleep 100",
			 NULL };
	struct supervise_program program = { .name = "test", .argv = argv };
	char first[16], second[16];

	(void) state;
	pid_t pid = run_supervisor(&program, 1);
	hear(first, sizeof(first));
	assert_true(atoi(first) > 1);
	assert_int_equal(kill(atoi(first), SIGKILL), 0);
	hear(second, sizeof(second));
	assert_string_not_equal(first, second);
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(exit_code_of(pid), 0);
	assert_int_equal(kill(atoi(second), 0), -1);
	assert_int_equal(errno, ESRCH);
}

static void usage_errors_end_it(void **state)
{
	char *bad[] = { (char *) "/bin/sh", (char *) "-c", (char *) "exit 2", NULL };
	char *good[] = { (char *) "/bin/sleep", (char *) "100", NULL };
	struct supervise_program programs[] = { { .name = "good", .argv = good },
						{ .name = "bad", .argv = bad } };

	(void) state;
	assert_int_equal(exit_code_of(run_supervisor(programs, 2)), 2);
}

static void missing_program_ends_it(void **state)
{
	char *argv[] = { (char *) "/no/such/program", NULL };
	struct supervise_program program = { .name = "missing", .argv = argv };

	(void) state;
	assert_int_equal(exit_code_of(run_supervisor(&program, 1)), 2);
}

static void leader_decides(void **state)
{
	char *fails[] = { (char *) "/bin/sh", (char *) "-c", (char *) "exit 1", NULL };
	char *ends[] = { (char *) "/bin/true", NULL };
	char *other[] = { (char *) "/bin/sleep", (char *) "100", NULL };
	struct supervise_program programs[] = { { .name = "leader", .argv = fails, .leads = true },
						{ .name = "other", .argv = other } };

	(void) state;
	assert_int_equal(exit_code_of(run_supervisor(programs, 2)), 1);
	programs[0].argv = ends;
	assert_int_equal(exit_code_of(run_supervisor(programs, 2)), 0);
}

static int make_socket(struct supervise_program *program, struct error *err)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void) err;
	if (bind(fd, (struct sockaddr *) &name, sizeof(sa_family_t)) < 0)
		return -errno;
	program->fds[0] = fd;
	program->fd_names[0] = "api";
	program->fds[1] = dup(fd);
	program->fd_names[1] = "agent";
	program->fd_count = 2;
	return 0;
}

static void hands_sockets_over(void **state)
{
	char *argv[] = {
		(char *) "/bin/sh", (char *) "-c",
		(char *) "test $LISTEN_PID = $$ && test -S /dev/fd/3 && test -S /dev/fd/4 && "
			 "echo $LISTEN_FDS $LISTEN_FDNAMES >&9",
		NULL
	};
	struct supervise_program program = {
		.name = "sockets", .argv = argv, .leads = true, .prepare = make_socket
	};
	char line[64];

	(void) state;
	pid_t pid = run_supervisor(&program, 1);
	hear(line, sizeof(line));
	assert_string_equal(line, "2 api:agent");
	assert_int_equal(exit_code_of(pid), 0);
}

/* A program of an earlier supervisor holds its lock: it is watched, and replaced when it ends. */
static void adopts_what_runs(void **state)
{
	char folder[] = "/tmp/brume-test-supervise-XXXXXX";
	char path[64], line[16];
	char *argv[] = { (char *) "/bin/sh", (char *) "-c", (char *) "echo new >&9; exec sleep 100",
			 NULL };
	struct supervise_program program = { .name = "test", .argv = argv, .lock_path = path };
	int ready[2];

	(void) state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/x.lock", folder);
	assert_int_equal(supervise_lock_holder(path), 0);
	assert_int_equal(pipe(ready), 0);
	pid_t old = fork();
	if (old == 0) {
		char byte = file_lock_pid(path) >= 0 ? 'y' : 'n';

		_exit(write(ready[1], &byte, 1) == 1 ? pause() : 1);
	}
	assert_int_equal(read(ready[0], line, 1), 1);
	assert_int_equal(line[0], 'y');
	assert_int_equal(supervise_lock_holder(path), old);

	pid_t pid = run_supervisor(&program, 1);
	kill(old, SIGKILL);
	assert_int_equal(waitpid(old, NULL, 0), old);
	hear(line, sizeof(line));
	assert_string_equal(line, "new");
	assert_int_equal(supervise_lock_holder(path), 0);
	kill(pid, SIGTERM);
	assert_int_equal(exit_code_of(pid), 0);
	close(ready[0]);
	close(ready[1]);
	assert_int_equal(file_remove_tree(AT_FDCWD, folder), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(starts_again_and_stops),  TEST(usage_errors_end_it),
		TEST(missing_program_ends_it), TEST(leader_decides),
		TEST(hands_sockets_over),      TEST(adopts_what_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
