/*
 * The whole keeper: this program is also the keeper (when started with --run), so that it can be
 * killed and can execute itself anew.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "codec/logline.h"
#include "keeper/client.h"
#include "keeper/keeper.h"

static char self[PATH_MAX];

struct world {
	char *run;
	pid_t keeper;
	sd_event *event;
	struct keeper_client *client;
	bool closed;
	/* The last event of the job that a test looks at. */
	char job[KEEPER_JOB_MAX + 1];
	struct keeper_msg last;
	char message[KEEPER_TEXT_MAX];
	unsigned int listed, refused;
};

static void on_event(void *data, const struct keeper_msg *msg)
{
	struct world *world = data;

	world->listed += msg->type == KEEPER_LISTED;
	world->refused += msg->type == KEEPER_REFUSED;
	if (strcmp(msg->job, world->job) != 0)
		return;
	world->last = *msg;
	snprintf(world->message, sizeof(world->message), "%s", msg->message ? msg->message : "");
}

static void on_closed(void *data)
{
	struct world *world = data;

	world->closed = true;
}

static const struct keeper_client_ops ops = { on_event, on_closed };

static void spin(struct world *world)
{
	assert_true(sd_event_run(world->event, 20 * 1000000ULL) > 0);
}

static void start_keeper(struct world *world)
{
	AUTO(free) char *path = mem_printf("%s/keeper.sock", world->run);
	AUTO(fd_close) int watch = inotify_init1(IN_CLOEXEC);
	struct error err = {};
	char events[4096];

	unlink(path);
	assert_true(inotify_add_watch(watch, world->run, IN_MOVED_TO) >= 0);
	world->keeper = fork();
	if (world->keeper == 0) {
		execl(self, self, "--run", world->run, NULL);
		_exit(127);
	}
	while (access(path, F_OK) < 0)
		assert_true(read(watch, events, sizeof(events)) > 0);
	world->closed = false;
	world->listed = 0;
	world->last.type = 0;
	if (keeper_client_new(world->event, path, &ops, world, &world->client, &err) < 0)
		fail_msg("%s", err.msg);
	while (!world->listed)
		spin(world);
}

/* A child that was just forked shares the lock until it executes its program: wait for that. */
static void wait_for_lock(struct world *world)
{
	AUTO(free) char *path = mem_printf("%s/keeper.lock", world->run);
	AUTO(fd_close) int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_EX), 0);
}

static void stop_keeper(struct world *world, int signal_number)
{
	kill(world->keeper, signal_number);
	assert_int_equal(waitpid(world->keeper, NULL, 0), world->keeper);
	wait_for_lock(world);
	keeper_client_free(world->client);
	world->client = NULL;
}

static int set_up(void **state)
{
	struct world *world = mem_new0(struct world);

	world->run = mem_strdup("/tmp/brume-test-keeper-XXXXXX");
	*state = world;
	if (!mkdtemp(world->run) || sd_event_new(&world->event) < 0)
		return -1;
	start_keeper(world);
	return 0;
}

static int tear_down(void **state)
{
	struct world *world = *state;

	stop_keeper(world, SIGTERM);
	sd_event_unref(world->event);
	file_remove_tree(AT_FDCWD, world->run);
	free(world->run);
	free(world);
	return 0;
}

static char *log_path(struct world *world)
{
	return mem_printf("%s/log", world->run);
}

static void spawn_shell(struct world *world, const char *job, const char *script,
			const char *pid_file)
{
	AUTO(free) char *log = log_path(world);
	char *argv[] = { "/bin/sh", "-c", (char *) script, NULL };
	char *env[] = { "PATH=/usr/bin:/bin", NULL };
	struct keeper_spawn spawn = { .job = job,
				      .mode = pid_file ? KEEPER_PID_FILE : KEEPER_DIRECT,
				      .stdio = KEEPER_LOGGED,
				      .argv = argv,
				      .env = env,
				      .cwd = world->run,
				      .pid_file = pid_file,
				      .log = log };

	snprintf(world->job, sizeof(world->job), "%s", job);
	world->last.type = 0;
	assert_int_equal(keeper_client_spawn(world->client, &spawn, NULL), 0);
}

static void wait_for(struct world *world, enum keeper_type type)
{
	while (world->last.type != type)
		spin(world);
}

static void expect_exit(struct world *world, enum keeper_exit kind, int value)
{
	wait_for(world, KEEPER_EXITED);
	assert_int_equal(world->last.exit_kind, kind);
	assert_int_equal(world->last.exit_value, value);
}

/* The text of one stream as it was written, without times. */
static char *log_text(struct world *world, enum logline_stream stream)
{
	AUTO(free) char *path = log_path(world);
	AUTO(strbuf_done) struct strbuf text = {};
	AUTO(free) char *all = NULL;
	struct logline line;

	assert_int_equal(file_read(AT_FDCWD, path, 1 << 24, &all, NULL), 0);
	for (char *p = all, *end; (end = strchr(p, '\n')); p = end + 1) {
		assert_int_equal(logline_parse(p, (size_t) (end - p), &line), 0);
		if (line.stream != stream)
			continue;
		strbuf_append(&text, line.text, line.text_size);
		if (!line.partial)
			strbuf_puts(&text, "\n");
	}
	return strbuf_take(&text);
}

static void runs_and_logs(void **state)
{
	struct world *world = *state;

	spawn_shell(world, "i-1", "echo out; echo err >&2; printf tail; exit 7", NULL);
	expect_exit(world, KEEPER_EXIT_CODE, 7);
	AUTO(free) char *out = log_text(world, LOGLINE_STDOUT);
	AUTO(free) char *err = log_text(world, LOGLINE_STDERR);
	assert_string_equal(out, "out\ntail");
	assert_string_equal(err, "err\n");
	/* Until it is forgotten the job answers with how it ended. */
	spawn_shell(world, "i-1", "exit 0", NULL);
	expect_exit(world, KEEPER_EXIT_CODE, 7);
	assert_int_equal(keeper_client_forget(world->client, "i-1"), 0);
	spawn_shell(world, "i-1", "kill -9 $$", NULL);
	expect_exit(world, KEEPER_EXIT_SIGNAL, SIGKILL);
}

static void says_why_it_could_not_start(void **state)
{
	struct world *world = *state;
	AUTO(free) char *pid_file = mem_printf("%s/pid", world->run);

	spawn_shell(world, "i-1", "echo noise >&2; echo 'no such image layer' >&2; exit 1",
		    pid_file);
	wait_for(world, KEEPER_FAILED);
	assert_string_equal(world->message, "no such image layer");
	assert_int_equal(keeper_client_forget(world->client, "i-1"), 0);
	spawn_shell(world, "i-1", "exit 3", pid_file);
	wait_for(world, KEEPER_FAILED);
	assert_string_equal(world->message, "the start failed with code 3");
}

static void knows_the_end_of_what_a_helper_left(void **state)
{
	struct world *world = *state;
	AUTO(free) char *pid_file = mem_printf("%s/pid", world->run);

	spawn_shell(world, "i-1", "mkfifo go; (read x < go; exit 42) & echo $! > pid", pid_file);
	wait_for(world, KEEPER_SPAWNED);
	AUTO(free) char *go = mem_printf("%s/go", world->run);
	AUTO(fd_close) int fd = open(go, O_RDWR | O_CLOEXEC);
	assert_int_equal(write(fd, "\n", 1), 1);
	expect_exit(world, KEEPER_EXIT_CODE, 42);
}

/* The child is dead before its helper has ended: the hardest order. */
static void knows_the_end_of_what_died_at_once(void **state)
{
	struct world *world = *state;
	AUTO(free) char *pid_file = mem_printf("%s/pid", world->run);
	AUTO(free) char *script = mem_printf("exec %s --die-at-once pid", self);

	for (int i = 0; i < 20; i++) {
		spawn_shell(world, "i-1", script, pid_file);
		expect_exit(world, KEEPER_EXIT_CODE, 23);
		assert_int_equal(keeper_client_forget(world->client, "i-1"), 0);
	}
}

static void signals_and_refuses(void **state)
{
	struct world *world = *state;

	assert_int_equal(keeper_client_signal(world->client, "i-9", SIGTERM), 0);
	while (!world->refused)
		spin(world);
	spawn_shell(world, "i-1", "trap 'exit 5' TERM; echo ready; while :; do read x < none; done",
		    NULL);
	AUTO(free) char *none = mem_printf("%s/none", world->run);
	assert_int_equal(mkfifo(none, 0600), 0);
	wait_for(world, KEEPER_SPAWNED);
	world->refused = 0;
	assert_int_equal(keeper_client_forget(world->client, "i-1"), 0);
	while (!world->refused)
		spin(world);
	assert_int_equal(keeper_client_signal(world->client, "i-1", SIGKILL), 0);
	expect_exit(world, KEEPER_EXIT_SIGNAL, SIGKILL);
}

static void give_descriptors(struct world *world)
{
	char *argv[] = { "/bin/sh", "-c", "cat <&0; echo err >&2; echo five >&5", NULL };
	int in[2], out[2];
	char text[64] = "";

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	const int fds[] = { in[0], out[1], out[1], out[1] }, as[] = { 0, 1, 2, 5 };
	struct keeper_spawn spawn = { .job = "x-1",
				      .stdio = KEEPER_GIVEN,
				      .argv = argv,
				      .fd_count = 4,
				      .fds = fds,
				      .fds_as = as };
	snprintf(world->job, sizeof(world->job), "x-1");
	world->last.type = 0;
	assert_int_equal(keeper_client_spawn(world->client, &spawn, NULL), 0);
	close(in[0]);
	close(out[1]);
	assert_int_equal(write(in[1], "in ", 3), 3);
	close(in[1]);
	expect_exit(world, KEEPER_EXIT_CODE, 0);
	assert_true(read(out[0], text, sizeof(text) - 1) > 0);
	assert_string_equal(text, "in err\nfive\n");
	close(out[0]);
}

static void gives_descriptors(void **state)
{
	struct world *world = *state;
	AUTO(free) char *path = mem_printf("%s/keeper.sock", world->run);

	give_descriptors(world);
	assert_int_equal(keeper_client_forget(world->client, "x-1"), 0);
	/* An agent that connects after such a job, and one more job: nothing was closed twice. */
	keeper_client_free(world->client);
	assert_int_equal(keeper_client_new(world->event, path, &ops, world, &world->client, NULL),
			 0);
	give_descriptors(world);
	assert_int_equal(keeper_client_forget(world->client, "x-1"), 0);
	give_descriptors(world);
	assert_false(world->closed);
}

static void start_echo(struct world *world, const char *job)
{
	spawn_shell(world, job,
		    "exec 3<>go; while read x <&3; do echo $x; [ $x = end ] && exit 11; done",
		    NULL);
	wait_for(world, KEEPER_SPAWNED);
}

static int open_go(struct world *world)
{
	AUTO(free) char *go = mem_printf("%s/go", world->run);

	assert_int_equal(mkfifo(go, 0600), 0);
	return open(go, O_RDWR | O_CLOEXEC);
}

static void a_killed_keeper_loses_no_job(void **state)
{
	struct world *world = *state;
	AUTO(fd_close) int go = open_go(world);

	start_echo(world, "i-1");
	pid_t pid = world->last.pid;
	stop_keeper(world, SIGKILL);
	assert_int_equal(write(go, "while nobody looks\n", 19), 19);
	start_keeper(world);
	assert_int_equal(world->last.type, KEEPER_SPAWNED);
	assert_int_equal(world->last.pid, pid);
	assert_int_equal(write(go, "end\n", 4), 4);
	wait_for(world, KEEPER_EXITED);
	/* Linux 6.15 and later remember the code of a process that is nobody's child of ours. */
	if (world->last.exit_kind != KEEPER_EXIT_UNKNOWN)
		assert_int_equal(world->last.exit_value, 11);
	AUTO(free) char *out = log_text(world, LOGLINE_STDOUT);
	assert_string_equal(out, "while nobody looks\nend\n");
}

static void an_end_without_a_keeper_is_found(void **state)
{
	struct world *world = *state;
	AUTO(fd_close) int go = open_go(world);

	start_echo(world, "i-1");
	pid_t pid = world->last.pid;
	stop_keeper(world, SIGKILL);
	/* We are its parent now (subreaper), so its end is certain when wait returns. */
	assert_int_equal(write(go, "end\n", 4), 4);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	start_keeper(world);
	assert_int_equal(world->last.type, KEEPER_EXITED);
	assert_int_equal(world->last.exit_kind, KEEPER_EXIT_UNKNOWN);
}

static void executes_itself_and_loses_nothing(void **state)
{
	struct world *world = *state;
	AUTO(fd_close) int go = open_go(world);
	AUTO(strbuf_done) struct strbuf want = {};

	start_echo(world, "i-1");
	pid_t pid = world->last.pid;
	for (int i = 0; i < 30; i++) {
		AUTO(free) char *line = mem_printf("line-%d\n", i);
		assert_int_equal(write(go, line, strlen(line)), (ssize_t) strlen(line));
		strbuf_puts(&want, line);
		if (i % 10 == 5) {
			assert_int_equal(keeper_client_reexec(world->client), 0);
			/* The same connection answers afterwards. */
			world->refused = 0;
			assert_int_equal(keeper_client_signal(world->client, "i-9", SIGTERM), 0);
			while (!world->refused)
				spin(world);
		}
	}
	assert_false(world->closed);
	assert_int_equal(write(go, "end\n", 4), 4);
	strbuf_puts(&want, "end\n");
	expect_exit(world, KEEPER_EXIT_CODE, 11);
	assert_int_equal(world->last.pid, pid);
	AUTO(free) char *out = log_text(world, LOGLINE_STDOUT);
	assert_string_equal(out, strbuf_str(&want));
}

static void one_keeper_per_run_folder(void **state)
{
	struct world *world = *state;
	struct keeper_options options = { .run = world->run, .self = self, .state_fd = -1 };
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(keeper_run(&options, NULL) == -EWOULDBLOCK ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* A helper whose child is dead, and not reaped, before it ends itself. */
static int die_at_once(const char *pid_file)
{
	siginfo_t info;
	pid_t pid = fork();
	char text[16];

	if (pid == 0)
		_exit(23);
	snprintf(text, sizeof(text), "%d", pid);
	return waitid(P_PID, (id_t) pid, &info, WEXITED | WNOWAIT) < 0 ||
	       file_write_atomic(AT_FDCWD, pid_file, text, strlen(text), 0600, 0) < 0;
}

static int be_the_keeper(int argc, char **argv)
{
	struct keeper_options options = { .run = argv[2], .self = self, .state_fd = -1 };
	struct error err = {};

	if (argc == 5)
		options.state_fd = atoi(argv[4]);
	return keeper_run(&options, &err) < 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(runs_and_logs, set_up, tear_down),
		cmocka_unit_test_setup_teardown(says_why_it_could_not_start, set_up, tear_down),
		cmocka_unit_test_setup_teardown(knows_the_end_of_what_a_helper_left, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(knows_the_end_of_what_died_at_once, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(signals_and_refuses, set_up, tear_down),
		cmocka_unit_test_setup_teardown(gives_descriptors, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_killed_keeper_loses_no_job, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_end_without_a_keeper_is_found, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(executes_itself_and_loses_nothing, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(one_keeper_per_run_folder, set_up, tear_down),
	};
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return 1;
	if (argc >= 3 && strcmp(argv[1], "--run") == 0)
		return be_the_keeper(argc, argv);
	if (argc >= 3 && strcmp(argv[1], "--die-at-once") == 0)
		return die_at_once(argv[2]);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
