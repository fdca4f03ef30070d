#include "base/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

enum {
	DELAY_MIN_US = 100 * 1000,
	DELAY_MAX_US = 5 * 1000 * 1000,
	STABLE_US = 10 * 1000 * 1000, /* who ran so long starts again quickly */
	EARLY_US = 2 * 1000 * 1000,   /* a leader's first start that ends within this has failed */
	STOP_US = 15 * 1000 * 1000,
	FIRST_FD = 3, /* where systemd's protocol puts the sockets */
};

struct supervisor;

struct child {
	struct supervisor *supervisor;
	struct supervise_program *program;
	pid_t pid;
	bool adopted; /* not our child: an earlier supervisor's */
	int pidfd;
	sd_event_source *exit;
	sd_event_source *timer;
	uint64_t started_us;
	uint64_t delay_us;
	unsigned int starts;
};

struct supervisor {
	sd_event *event;
	sd_event_source *kill_timer;
	struct child *children;
	unsigned int count;
	bool stopping;
	int result;
};

static uint64_t now_us(void)
{
	return clock_monotonic_us(clock_system());
}

int supervise_lock_holder(const char *lock_path)
{
	AUTO(fd_close) int fd = open(lock_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	AUTO(free) char *text = NULL;

	if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK)
		return 0;
	if (file_read_fd(fd, 64, &text, NULL) < 0)
		return 0;
	int pid = atoi(text);
	return pid > 1 ? pid : 0;
}

static void end_all(struct supervisor *supervisor, int result);
static void start(struct child *child);

/* -- after the end of a program ---------------------------------------------------------------- */

static bool all_gone(const struct supervisor *supervisor)
{
	for (unsigned int i = 0; i < supervisor->count; i++)
		if (supervisor->children[i].pid > 0)
			return false;
	return true;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *user)
{
	(void) source;
	(void) usec;
	start(user);
	return 0;
}

static void start_later(struct child *child)
{
	if (child->started_us && now_us() - child->started_us > STABLE_US)
		child->delay_us = 0;
	child->delay_us = child->delay_us ? child->delay_us * 2 : DELAY_MIN_US;
	if (child->delay_us > DELAY_MAX_US)
		child->delay_us = DELAY_MAX_US;
	log_info("%s: starting again in %u ms", child->program->name,
		 (unsigned int) (child->delay_us / 1000));
	sd_event_source_set_time_relative(child->timer, child->delay_us);
	sd_event_source_set_enabled(child->timer, SD_EVENT_ONESHOT);
}

/* Says how it ended; *ret_code is its exit code, or -1. */
static void describe_end(const struct child *child, char *ret, size_t size, int *ret_code)
{
	int status = 0;

	*ret_code = -1;
	if (child->adopted || waitpid(child->pid, &status, 0) != child->pid) {
		snprintf(ret, size, "has ended");
	} else if (WIFEXITED(status)) {
		*ret_code = WEXITSTATUS(status);
		snprintf(ret, size, "ended with exit code %d", *ret_code);
	} else {
		snprintf(ret, size, "was killed by signal %d", WTERMSIG(status));
	}
}

static int on_exit_of(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	struct child *child = user;
	struct supervisor *supervisor = child->supervisor;
	char words[48];
	int code;

	(void) source;
	(void) fd;
	(void) revents;
	describe_end(child, words, sizeof(words), &code);
	log_info("%s: pid %d %s", child->program->name, child->pid, words);
	child->pid = 0;
	child->exit = sd_event_source_disable_unref(child->exit);
	fd_close(TAKE_FD(child->pidfd));
	bool failed_at_once =
		code == 1 && child->starts == 1 && now_us() - child->started_us < EARLY_US;
	if (supervisor->stopping) {
		if (all_gone(supervisor))
			sd_event_exit(supervisor->event, 0);
	} else if (code == 2 || (child->program->leads && (code == 0 || failed_at_once))) {
		end_all(supervisor, code);
	} else {
		start_later(child);
	}
	return 0;
}

/* -- starting -----------------------------------------------------------------------------------
 */

static int watch(struct child *child, pid_t pid)
{
	int r;

	child->pidfd = (int) syscall(SYS_pidfd_open, pid, 0);
	if (child->pidfd < 0)
		return -errno;
	r = sd_event_add_io(child->supervisor->event, &child->exit, child->pidfd, EPOLLIN,
			    on_exit_of, child);
	if (r < 0) {
		fd_close(TAKE_FD(child->pidfd));
		return r;
	}
	child->pid = pid;
	child->started_us = now_us();
	return 0;
}

/* In the new process: the sockets become 3, 4, ... and the environment says what they are. */
static void run_program(const struct supervise_program *program)
{
	int high[SUPERVISE_FDS_MAX];
	char names[256] = "";
	char text[16];
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (unsigned int i = 0; i < program->fd_count; i++) {
		high[i] = fcntl(program->fds[i], F_DUPFD_CLOEXEC, 64);
		strncat(names, program->fd_names[i], sizeof(names) - strlen(names) - 2);
		strcat(names, i + 1 < program->fd_count ? ":" : "");
	}
	for (unsigned int i = 0; i < program->fd_count; i++)
		dup2(high[i], FIRST_FD + (int) i);
	if (program->fd_count > 0) {
		snprintf(text, sizeof(text), "%d", getpid());
		setenv("LISTEN_PID", text, 1);
		snprintf(text, sizeof(text), "%u", program->fd_count);
		setenv("LISTEN_FDS", text, 1);
		setenv("LISTEN_FDNAMES", names, 1);
	}
	execv(program->argv[0], program->argv);
	log_error("%s: cannot execute %s: %s", program->name, program->argv[0], strerror(errno));
	_exit(errno == ENOENT ? 2 : 1);
}

static void start(struct child *child)
{
	struct supervise_program *program = child->program;
	struct error err = {};
	int holder = program->lock_path ? supervise_lock_holder(program->lock_path) : 0;

	child->adopted = holder > 0;
	if (holder > 0 && watch(child, holder) == 0) {
		log_info("%s: already runs as pid %d, watching it", program->name, holder);
		return;
	}
	child->starts++;
	if (program->prepare && program->prepare(program, &err) < 0) {
		log_error("%s: %s", program->name, err.msg);
		if (program->leads && child->starts == 1)
			end_all(child->supervisor, 1);
		else
			start_later(child);
		return;
	}
	pid_t pid = fork();
	if (pid == 0)
		run_program(program);
	int r = pid < 0 ? -errno : watch(child, pid);
	if (r == 0) {
		log_info("%s: started as pid %d", program->name, pid);
		return;
	}
	log_error("%s: cannot be started: %s", program->name, strerror(-r));
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	start_later(child);
}

/* -- the end ------------------------------------------------------------------------------------
 */

static void signal_all(struct supervisor *supervisor, int signal)
{
	for (unsigned int i = 0; i < supervisor->count; i++)
		if (supervisor->children[i].pid > 0)
			syscall(SYS_pidfd_send_signal, supervisor->children[i].pidfd, signal, NULL,
				0);
}

static int on_kill_timer(sd_event_source *source, uint64_t usec, void *user)
{
	(void) source;
	(void) usec;
	log_warning("some programs do not end: killing them");
	signal_all(user, SIGKILL);
	return 0;
}

static void end_all(struct supervisor *supervisor, int result)
{
	if (supervisor->stopping)
		return;
	supervisor->stopping = true;
	supervisor->result = result;
	for (unsigned int i = 0; i < supervisor->count; i++)
		sd_event_source_set_enabled(supervisor->children[i].timer, SD_EVENT_OFF);
	signal_all(supervisor, SIGTERM);
	sd_event_add_time_relative(supervisor->event, &supervisor->kill_timer, CLOCK_MONOTONIC,
				   STOP_US, 0, on_kill_timer, supervisor);
	if (all_gone(supervisor))
		sd_event_exit(supervisor->event, 0);
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *user)
{
	(void) source;
	log_info("signal %u: ending", info->ssi_signo);
	end_all(user, 0);
	return 0;
}

static int run(struct supervisor *supervisor, struct error *err)
{
	sigset_t signals;
	int r;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	r = sd_event_new(&supervisor->event);
	if (r >= 0)
		r = sd_event_add_signal(supervisor->event, NULL, SIGTERM, on_signal, supervisor);
	if (r >= 0)
		r = sd_event_add_signal(supervisor->event, NULL, SIGINT, on_signal, supervisor);
	for (unsigned int i = 0; r >= 0 && i < supervisor->count; i++) {
		struct child *child = &supervisor->children[i];

		r = sd_event_add_time(supervisor->event, &child->timer, CLOCK_MONOTONIC, UINT64_MAX,
				      1000, on_timer, child);
	}
	if (r < 0)
		return error_set(err, r, "supervision");
	for (unsigned int i = 0; i < supervisor->count && !supervisor->stopping; i++)
		start(&supervisor->children[i]);
	r = sd_event_loop(supervisor->event);
	return r < 0 ? error_set(err, r, "supervision") : supervisor->result;
}

int supervise_run(struct supervise_program *programs, unsigned int count, struct error *err)
{
	struct supervisor supervisor = { .count = count };
	int r;

	supervisor.children = mem_new0_array(struct child, count);
	for (unsigned int i = 0; i < count; i++) {
		supervisor.children[i].supervisor = &supervisor;
		supervisor.children[i].program = &programs[i];
		supervisor.children[i].pidfd = -1;
	}
	r = run(&supervisor, err);
	for (unsigned int i = 0; i < count; i++) {
		sd_event_source_disable_unref(supervisor.children[i].exit);
		sd_event_source_disable_unref(supervisor.children[i].timer);
		fd_close(supervisor.children[i].pidfd);
	}
	sd_event_source_disable_unref(supervisor.kill_timer);
	sd_event_unref(supervisor.event);
	free(supervisor.children);
	return r;
}
