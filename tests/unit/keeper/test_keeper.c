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
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "codec/logline.h"
#include "keeper/client.h"
#include "keeper/keeper.h"
#include "kern/sock.h"

enum { CROWD = 1500 };

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
	int console_fd; /* as an agent holds it */
};

static void on_event(void *data, const struct keeper_msg *msg, int *console_fd)
{
	struct world *world = data;

	world->listed += msg->type == KEEPER_LISTED;
	world->refused += msg->type == KEEPER_REFUSED;
	if (strcmp(msg->job, world->job) != 0)
		return;
	world->last = *msg;
	if (*console_fd >= 0) {
		fd_close(world->console_fd);
		world->console_fd = TAKE_FD(*console_fd);
	}
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
	if (world->console_fd >= 0)
		keeper_client_hold(world->client, world->job, world->console_fd);
	assert_int_equal(keeper_client_list(world->client), 0);
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
	world->console_fd = -1;
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
	fd_close(world->console_fd);
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

static void spawn_with_input(struct world *world, const char *job, const char *script,
			     const char *pid_file, enum keeper_input input)
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
				      .log = log,
				      .input = input };

	snprintf(world->job, sizeof(world->job), "%s", job);
	world->last.type = 0;
	assert_int_equal(keeper_client_spawn(world->client, &spawn, NULL), 0);
}

static void spawn_shell(struct world *world, const char *job, const char *script,
			const char *pid_file)
{
	spawn_with_input(world, job, script, pid_file, KEEPER_INPUT_NONE);
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
		uint64_t position;

		if (p == all && logline_parse_head(p, LOGLINE_HEAD_SIZE, &position) == 0)
			continue;
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

/* What a job may open is not what the keeper has open. */
static void hundreds_of_jobs_do_not_hinder_the_next(void **state)
{
	struct world *world = *state;
	AUTO(free) char *crowd = mem_printf("%s/crowd", world->run);
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_max < 2 * CROWD)
		skip();
	stop_keeper(world, SIGTERM);
	assert_int_equal(file_write_atomic(AT_FDCWD, crowd, "", 0, 0600, 0), 0);
	start_keeper(world);
	spawn_shell(world, "i-1", "ulimit -Sn; cat /proc/self/oom_score_adj", NULL);
	expect_exit(world, KEEPER_EXIT_CODE, 0);
	AUTO(free) char *out = log_text(world, LOGLINE_STDOUT);
	assert_string_equal(out, "1024\n0\n");
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
	assert_int_equal(keeper_client_list(world->client), 0);
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

/* The agent holds the pipes: what was in them when the job ended is still there. */
static void a_held_pipe_keeps_the_last_words(void **state)
{
	struct world *world = *state;
	AUTO(free) char *fifo = mem_printf("%s/fifo/i-1.out", world->run);
	AUTO(fd_close) int go = open_go(world);

	start_echo(world, "i-1");
	pid_t pid = world->last.pid;
	AUTO(fd_close) int hold = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	stop_keeper(world, SIGKILL);
	assert_int_equal(write(go, "last words\nend\n", 15), 15);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	start_keeper(world);
	assert_int_equal(world->last.type, KEEPER_EXITED);
	AUTO(free) char *out = log_text(world, LOGLINE_STDOUT);
	assert_string_equal(out, "last words\nend\n");
}

static void passes_input_on_until_it_ends(void **state)
{
	struct world *world = *state;
	AUTO(free) char *fifo = mem_printf("%s/fifo/i-1.in", world->run);

	spawn_with_input(world, "i-1", "while read x; do echo got $x; done; exit 4", NULL,
			 KEEPER_INPUT_FIFO);
	wait_for(world, KEEPER_SPAWNED);
	AUTO(fd_close) int in = open(fifo, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(in >= 0);
	assert_int_equal(write(in, "one\n", 4), 4);
	/* Neither a new keeper nor a killed one ends it: somebody has the other end open. */
	assert_int_equal(keeper_client_reexec(world->client), 0);
	assert_int_equal(write(in, "two\n", 4), 4);
	stop_keeper(world, SIGKILL);
	assert_int_equal(write(in, "three\n", 6), 6);
	start_keeper(world);
	close(TAKE_FD(in));
	assert_int_equal(keeper_client_end_input(world->client, "i-1"), 0);
	wait_for(world, KEEPER_EXITED);
	AUTO(free) char *out = log_text(world, LOGLINE_STDOUT);
	assert_string_equal(out, "got one\ngot two\ngot three\n");
	assert_int_equal(access(fifo, F_OK), -1);
}

static void write_terminal(struct world *world, const char *text)
{
	AUTO(fd_close) int master = sock_peek_fd(world->console_fd);

	assert_true(master >= 0);
	assert_int_equal(write(master, text, strlen(text)), (ssize_t) strlen(text));
}

/* The helper makes a terminal, as brume-oci does; its master comes over the console socket. */
static void a_terminal_outlives_the_keeper(void **state)
{
	struct world *world = *state;
	AUTO(free) char *pid_file = mem_printf("%s/pid", world->run);
	AUTO(free) char *script = mem_printf("exec %s --on-terminal pid", self);

	spawn_with_input(world, "i-1", script, pid_file, KEEPER_INPUT_TERMINAL);
	wait_for(world, KEEPER_SPAWNED);
	assert_true(world->console_fd >= 0);
	write_terminal(world, "one\n");
	assert_int_equal(keeper_client_reexec(world->client), 0);
	write_terminal(world, "two\n");
	stop_keeper(world, SIGKILL);
	write_terminal(world, "three\n");
	start_keeper(world);
	assert_int_equal(world->last.type, KEEPER_SPAWNED);
	pid_t pid = world->last.pid;
	stop_keeper(world, SIGKILL);
	write_terminal(world, "end\n");
	/* Its end without a keeper: the last words wait in the terminal. */
	waitpid(pid, NULL, 0);
	start_keeper(world);
	wait_for(world, KEEPER_EXITED);
	AUTO(free) char *out = log_text(world, LOGLINE_STDOUT);
	assert_string_equal(out, "tty\r\ngot one\r\ngot two\r\ngot three\r\ngot end\r\n");
}

/* Every byte once, in order, however often and whenever the keeper is killed. */
static void kills_lose_and_double_nothing(void **state)
{
	struct world *world = *state;
	AUTO(free) char *fifo = mem_printf("%s/fifo/i-1.out", world->run);
	AUTO(free) char *path = log_path(world);
	const char script[] = "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done; "
			      "exec 3<>go; read x <&3";
	AUTO(fd_close) int go = open_go(world);
	/* Each line once, and its digits: 10 of one, 90 of two, ... */
	const off_t whole = LOGLINE_HEAD_SIZE + 20000 * (LOGLINE_PREFIX_SIZE + 1) + 88890;
	unsigned int want = 0;
	struct stat st = {};

	spawn_shell(world, "i-1", script, NULL);
	wait_for(world, KEEPER_SPAWNED);
	AUTO(fd_close) int hold = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	for (int i = 0; i < 12; i++) {
		off_t before = st.st_size;

		stop_keeper(world, SIGKILL);
		start_keeper(world);
		/* Until it has written more, so that it is killed in its work. */
		do
			assert_int_equal(stat(path, &st), 0);
		while (st.st_size == before && st.st_size < whole);
	}
	assert_int_equal(write(go, "x\n", 2), 2);
	wait_for(world, KEEPER_EXITED);
	AUTO(free) char *out = log_text(world, LOGLINE_STDOUT);
	for (char *p = out, *end; (end = strchr(p, '\n')); p = end + 1)
		assert_int_equal(strtoul(p, NULL, 10), want++);
	assert_int_equal(want, 20000);
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

static int open_console(void)
{
	AUTO(fd_close) int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ||
	    sock_send(KEEPER_CONSOLE_FD, "", 1, &master, 1) < 0)
		return -1;
	int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct termios mode;
	if (tcgetattr(slave, &mode) < 0)
		return -1;
	mode.c_lflag &= ~(tcflag_t) ECHO;
	return tcsetattr(slave, TCSANOW, &mode) < 0 ? -1 : slave;
}

/* A helper that leaves a program behind on a terminal of its own. */
static int on_terminal(const char *pid_file)
{
	int slave = open_console();
	char text[16];

	if (slave < 0)
		return 1;
	pid_t pid = fork();
	if (pid == 0) {
		setsid();
		ioctl(slave, TIOCSCTTY, 0);
		for (int i = 0; i < 3; i++)
			dup2(slave, i);
		execl("/bin/sh", "sh", "-c",
		      "test -t 0 && echo tty; while read x; do echo got $x; [ $x = end ] && exit; "
		      "done",
		      NULL);
		_exit(127);
	}
	snprintf(text, sizeof(text), "%d", pid);
	return file_write_atomic(AT_FDCWD, pid_file, text, strlen(text), 0600, 0) < 0;
}

/* As many as hundreds of jobs have. */
static void open_many(const char *run)
{
	AUTO(free) char *wanted = mem_printf("%s/crowd", run);
	struct rlimit limit;

	if (access(wanted, F_OK) < 0)
		return;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	for (int i = 0; i < CROWD; i++)
		if (open("/dev/null", O_RDONLY | O_CLOEXEC) < 0)
			abort();
}

static int be_the_keeper(int argc, char **argv)
{
	struct keeper_options options = { .run = argv[2], .self = self, .state_fd = -1 };
	struct error err = {};

	open_many(argv[2]);
	if (argc == 5)
		options.state_fd = atoi(argv[4]);
	return keeper_run(&options, &err) < 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(runs_and_logs, set_up, tear_down),
		cmocka_unit_test_setup_teardown(hundreds_of_jobs_do_not_hinder_the_next, set_up,
						tear_down),
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
		cmocka_unit_test_setup_teardown(a_held_pipe_keeps_the_last_words, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(passes_input_on_until_it_ends, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_terminal_outlives_the_keeper, set_up, tear_down),
		cmocka_unit_test_setup_teardown(kills_lose_and_double_nothing, set_up, tear_down),
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
	if (argc >= 3 && strcmp(argv[1], "--on-terminal") == 0)
		return on_terminal(argv[2]);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
