#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "keeper/keeper_internal.h"
#include "kern/pidfd.h"

/* What of a helper's stderr is kept for the message when it fails. */
enum { LAST_WORDS_MAX = 480, PID_FILE_MAX = 64 };

struct job *job_find(struct keeper *keeper, const char *id)
{
	struct job *job = keeper->jobs;

	while (job && strcmp(job->id, id) != 0)
		job = job->next;
	return job;
}

void job_describe(const struct job *job, struct keeper_msg *ret)
{
	struct keeper_msg msg = { .type = job->phase,
				  .pid = job->pid,
				  .exit_kind = job->exit_kind,
				  .exit_value = job->exit_value,
				  .message = job->message };

	memcpy(msg.job, job->id, strlen(job->id) + 1);
	*ret = msg;
}

/* Keeps the end of what a helper said. */
void job_add_last_words(struct job *job, const char *text, size_t size)
{
	size_t old = job->message ? strlen(job->message) : 0;
	AUTO(free) char *all = mem_zalloc(old + size + 1);

	memcpy(all, job->message ? job->message : "", old);
	for (size_t i = 0; i < size; i++)
		all[old + i] = text[i] ? text[i] : ' ';
	size_t skip = old + size > LAST_WORDS_MAX ? old + size - LAST_WORDS_MAX : 0;
	mem_replace(&job->message, all + skip);
}

static void save(struct keeper *keeper, struct job *job)
{
	int r = record_save(keeper, job);

	if (r < 0)
		log_error(
			"job %s: cannot write its record: %s; a crash of the keeper would lose it",
			job->id, strerror(-r));
}

static void ended(struct keeper *keeper, struct job *job, enum keeper_type phase)
{
	stdio_drain(keeper, job);
	stdio_close(keeper, job);
	source_close(keeper, &job->process);
	job->phase = phase;
	save(keeper, job);
	keeper_broadcast(keeper, job);
}

static void set_exit(struct job *job, int wait_status)
{
	bool signalled = WIFSIGNALED(wait_status);

	job->exit_kind = signalled ? KEEPER_EXIT_SIGNAL : KEEPER_EXIT_CODE;
	job->exit_value = signalled ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

static void job_failed(struct keeper *keeper, struct job *job, const char *message)
{
	mem_replace(&job->message, message);
	log_info("job %s: not started: %s", job->id, message);
	ended(keeper, job, KEEPER_FAILED);
}

static void job_exited(struct keeper *keeper, struct job *job, const int *wait_status)
{
	if (wait_status)
		set_exit(job, *wait_status);
	else
		job->exit_kind = KEEPER_EXIT_UNKNOWN;
	log_debug("job %s: process %d ended (%d, %d)", job->id, job->pid, job->exit_kind,
		  job->exit_value);
	ended(keeper, job, KEEPER_EXITED);
}

static bool take_orphan(struct keeper *keeper, pid_t pid, int *ret_wait_status)
{
	for (unsigned int i = 0; i < ORPHANS_MAX; i++) {
		if (keeper->orphans[i].pid != pid)
			continue;
		*ret_wait_status = keeper->orphans[i].wait_status;
		keeper->orphans[i].pid = 0;
		return true;
	}
	return false;
}

static void helper_ended(struct keeper *keeper, struct job *job, const int *wait_status);

static void process_ready(struct keeper *keeper, void *owner, uint32_t revents)
{
	struct job *job = owner;
	int wait_status, r;

	(void) revents;
	r = pidfd_exit_status(job->process.fd, job->pid, &wait_status);
	source_close(keeper, &job->process);
	if (job->phase == KEEPER_STARTING)
		helper_ended(keeper, job, r < 0 ? NULL : &wait_status);
	else
		job_exited(keeper, job, r < 0 ? NULL : &wait_status);
}

/* Starts to watch job->pid, which began at job->start_time.  -ESRCH when it is gone. */
static int track(struct keeper *keeper, struct job *job)
{
	struct pidfd_stat stat;
	int r = pidfd_read_stat(job->pid, &stat);

	if (r == 0 && stat.start_time != job->start_time)
		r = -ESRCH;
	if (r < 0)
		return r;
	job->child = stat.parent == getpid();
	if (job->child)
		return 0;
	job->process.fd = pidfd_open_started(job->pid, job->start_time);
	if (job->process.fd < 0) {
		r = job->process.fd;
		job->process.fd = -1;
		return r;
	}
	return source_watch(keeper, &job->process, EPOLLIN);
}

static pid_t read_pid_file(const char *path)
{
	AUTO(free) char *text = NULL;
	char *end;

	if (file_read(AT_FDCWD, path, PID_FILE_MAX, &text, NULL) < 0)
		return -1;
	errno = 0;
	long pid = strtol(text, &end, 10);
	if (errno || end == text || (*end && *end != '\n') || pid <= 1 || pid > INT32_MAX)
		return -1;
	return (pid_t) pid;
}

/* The last line of what the helper said, without its line end. */
static char *last_words(const struct job *job, const int *wait_status)
{
	AUTO(free) char *text = mem_strdup(job->message ? job->message : "");
	size_t size = strlen(text);

	while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == ' '))
		text[--size] = '\0';
	char *line = strrchr(text, '\n');
	if (size > 0)
		return mem_strdup(line ? line + 1 : text);
	if (!wait_status)
		return mem_strdup("the start was interrupted");
	if (WIFSIGNALED(*wait_status))
		return mem_printf("the start was ended by signal %d", WTERMSIG(*wait_status));
	return mem_printf("the start failed with code %d", WEXITSTATUS(*wait_status));
}

/* A wait status of NULL: nobody knows; then the pid file says whether the helper succeeded. */
static void helper_ended(struct keeper *keeper, struct job *job, const int *wait_status)
{
	struct pidfd_stat stat = {};
	int orphan_status;
	pid_t pid = -1;

	stdio_drain(keeper, job);
	if (!wait_status || (WIFEXITED(*wait_status) && WEXITSTATUS(*wait_status) == 0))
		pid = read_pid_file(job->pid_file);
	if (pid < 0) {
		AUTO(free) char *words = last_words(job, wait_status);

		if (wait_status)
			set_exit(job, *wait_status);
		job_failed(keeper, job, words);
		return;
	}
	mem_replace(&job->message, NULL);
	job->pid = pid;
	job->phase = KEEPER_SPAWNED;
	job->start_time = pidfd_read_stat(pid, &stat) == 0 ? stat.start_time : 0;
	if (take_orphan(keeper, pid, &orphan_status)) {
		keeper_broadcast(keeper, job);
		job_exited(keeper, job, &orphan_status);
		return;
	}
	save(keeper, job);
	keeper_broadcast(keeper, job);
	if (track(keeper, job) < 0)
		job_exited(keeper, job, NULL);
}

static struct job *find_child(struct keeper *keeper, pid_t pid)
{
	struct job *job = keeper->jobs;

	while (job && !(job->child && job->pid == pid && !job->helper_ended &&
			(job->phase == KEEPER_STARTING || job->phase == KEEPER_SPAWNED)))
		job = job->next;
	return job;
}

/*
 * A container's init becomes our child when its helper ends, so both may be found dead in one
 * round, in any order: helpers are looked at after everything has been collected.
 */
void job_reap_all(struct keeper *keeper)
{
	int wait_status;
	pid_t pid;

	while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0) {
		struct job *job = find_child(keeper, pid);

		if (!job) {
			keeper->orphans[keeper->orphan_next++ % ORPHANS_MAX] =
				(struct orphan){ pid, wait_status };
		} else if (job->phase == KEEPER_STARTING) {
			job->helper_ended = true;
			job->helper_status = wait_status;
		} else {
			job_exited(keeper, job, &wait_status);
		}
	}
	for (struct job *job = keeper->jobs; job; job = job->next) {
		if (!job->helper_ended)
			continue;
		job->helper_ended = false;
		helper_ended(keeper, job, &job->helper_status);
	}
	bool starting = false;
	for (struct job *job = keeper->jobs; job; job = job->next)
		starting |= job->phase == KEEPER_STARTING;
	/* Without a helper nobody will ask for these, and their pids may be used again. */
	if (!starting)
		memset(keeper->orphans, 0, sizeof(keeper->orphans));
}

static struct job *job_new(struct keeper *keeper, const struct keeper_msg *msg)
{
	struct job *job = mem_new0(struct job);
	struct job **last = &keeper->jobs;

	job->id = mem_strdup(msg->job);
	job->mode = msg->mode;
	job->stdio = msg->stdio;
	job->phase = KEEPER_STARTING;
	job->pid_file = mem_strdup(msg->pid_file);
	job->input = msg->input;
	stdio_init(job);
	job->process = (struct source){ -1, job, process_ready };
	job->log.fd = -1;
	if (job->stdio == KEEPER_LOGGED)
		joblog_init(&job->log, msg->log, msg->log_max_bytes, msg->log_max_files);
	while (*last)
		last = &(*last)->next;
	*last = job;
	return job;
}

void job_free(struct keeper *keeper, struct job *job)
{
	struct job **p = &keeper->jobs;

	while (*p && *p != job)
		p = &(*p)->next;
	if (*p)
		*p = job->next;
	stdio_close(keeper, job);
	source_close(keeper, &job->process);
	joblog_done(&job->log);
	free(job->id);
	free(job->message);
	free(job->pid_file);
	free(job);
}

static void child_ends_close_autop(struct child_spec *spec)
{
	fd_close(spec->out_fd);
	fd_close(spec->err_fd);
	fd_close(spec->in_fd);
	fd_close(spec->console_fd);
}

static int start_process(struct keeper *keeper, struct job *job, const struct keeper_msg *msg,
			 const int *fds)
{
	AUTO(child_ends_close)
	struct child_spec spec = { msg, fds, -1, -1, -1, -1 };
	AUTO(fd_close) int go_fd = -1;
	struct pidfd_stat stat;
	int r = stdio_make(keeper, job, msg, &spec);

	if (r < 0)
		return r;
	r = child_fork(&spec, &job->pid, &go_fd);
	if (r < 0)
		return r;
	job->child = true;
	r = pidfd_read_stat(job->pid, &stat);
	if (r < 0)
		return r;
	job->start_time = stat.start_time;
	if (job->mode == KEEPER_DIRECT)
		job->phase = KEEPER_SPAWNED;
	r = record_save(keeper, job);
	if (r < 0)
		return r;
	return write(go_fd, "", 1) == 1 ? 0 : -errno;
}

void job_start(struct keeper *keeper, const struct keeper_msg *msg, const int *fds)
{
	struct job *job = job_new(keeper, msg);
	int r = start_process(keeper, job, msg, fds);

	if (r < 0) {
		AUTO(free) char *message = mem_printf("cannot spawn: %s", strerror(-r));
		/* A child that was forked ends by itself: nobody let it go. */
		job->child = false;
		job_failed(keeper, job, message);
	} else {
		keeper_broadcast(keeper, job);
	}
}

int job_signal(struct job *job, int signal_number)
{
	if (job->phase != KEEPER_STARTING && job->phase != KEEPER_SPAWNED)
		return -ESRCH;
	/* A child cannot be reaped by anybody else, so its pid is still its own. */
	if (job->child)
		return kill(job->pid, signal_number) < 0 ? -errno : 0;
	return job->process.fd < 0 ? -ESRCH : pidfd_send(job->process.fd, signal_number);
}

int job_forget(struct keeper *keeper, struct job *job)
{
	if (job->phase != KEEPER_EXITED && job->phase != KEEPER_FAILED)
		return -EBUSY;
	stdio_remove(keeper, job);
	record_remove(keeper, job);
	job_free(keeper, job);
	return 0;
}

void job_adopt(struct keeper *keeper, const struct keeper_msg *record, const int fds[STDIO_KEPT])
{
	struct job *job = job_new(keeper, record);
	int r;

	job->phase = record->phase;
	job->pid = record->pid;
	job->start_time = record->start_time;
	job->exit_kind = record->exit_kind;
	job->exit_value = record->exit_value;
	job->message = mem_strdup(record->message);
	if (job->phase != KEEPER_STARTING && job->phase != KEEPER_SPAWNED)
		return;
	stdio_adopt(keeper, job, fds);
	r = track(keeper, job);
	if (r < 0 && job->phase == KEEPER_STARTING)
		helper_ended(keeper, job, NULL);
	else if (r < 0)
		job_exited(keeper, job, NULL);
}
