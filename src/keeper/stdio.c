/*
 * A job's pipes and terminal.
 *
 * What it writes is read here and logged.  A job that writes more than its share of a slice is not
 * read until the slice is over: its own pipe holds it back, nobody else waits.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "keeper/keeper_internal.h"
#include "kern/sock.h"

enum {
	SLICE_MS = 50,
	SLICE_MAX_BYTES = 2 * 1024 * 1024, /* 40 MiB a second */
	DRAIN_ROUNDS = 256,
};

static void fifo_name(const char *id, const char *which, char ret[KEEPER_JOB_MAX + 8])
{
	snprintf(ret, KEEPER_JOB_MAX + 8, "%s.%s", id, which);
}

static int64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/*
 * Nobody has the terminal's other end now, but somebody may open it again.  Until then only news
 * count: its state alone would wake us for ever.
 */
static void hang_up(struct keeper *keeper, struct job *job)
{
	if (!job->hung_up)
		source_watch(keeper, &job->terminal, EPOLLIN | EPOLLET);
	job->hung_up = true;
}

static void pick_up(struct keeper *keeper, struct job *job)
{
	if (job->hung_up)
		source_watch(keeper, &job->terminal, EPOLLIN);
	job->hung_up = false;
}

/* Reads once.  Returns whether there may be more. */
static bool read_output(struct keeper *keeper, struct job *job, struct source *source)
{
	struct joblog_batch batch = { .stream =
					      source == &job->err ? LOGLINE_STDERR : LOGLINE_STDOUT,
				      .time_ns = clock_ns(CLOCK_REALTIME) };
	ssize_t n;

	if (source->fd < 0)
		return false;
	n = spool_take(keeper->spool, source->fd, &job->log, &batch);
	if (n == -EAGAIN)
		return false;
	if (n == -EIO && source == &job->terminal) {
		hang_up(keeper, job);
		return false;
	}
	if (n <= 0) {
		source_close(keeper, source);
		return false;
	}
	joblog_write(&job->log, &batch, keeper->log_buffer);
	spool_commit(keeper->spool);
	if (source == &job->err && job->phase == KEEPER_STARTING)
		job_add_last_words(job, batch.text, batch.size);
	if (source == &job->terminal)
		pick_up(keeper, job);
	job->slice_bytes += (uint64_t) n;
	return true;
}

static void unwatch(struct keeper *keeper, const struct source *source)
{
	if (source->fd >= 0)
		epoll_ctl(keeper->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
}

static void watch(struct keeper *keeper, struct source *source)
{
	if (source->fd >= 0)
		source_watch(keeper, source, EPOLLIN);
}

static void pause_until_slice_ends(struct keeper *keeper, struct job *job, int64_t now_ms)
{
	int64_t left_ms = job->slice_ms + SLICE_MS - now_ms;
	struct itimerspec armed = {}, end = { .it_value.tv_nsec = left_ms * 1000000 };

	job->paused = true;
	unwatch(keeper, &job->out);
	unwatch(keeper, &job->err);
	unwatch(keeper, &job->terminal);
	/* One that is paused already ends sooner; this one then gets a slice a little early. */
	if (timerfd_gettime(keeper->timer.fd, &armed) == 0 && armed.it_value.tv_nsec == 0)
		timerfd_settime(keeper->timer.fd, 0, &end, NULL);
}

static void count_slice(struct keeper *keeper, struct job *job)
{
	int64_t now_ms = clock_ns(CLOCK_MONOTONIC) / 1000000;

	if (now_ms - job->slice_ms >= SLICE_MS) {
		job->slice_ms = now_ms;
		job->slice_bytes = 0;
	}
	if (job->slice_bytes > SLICE_MAX_BYTES)
		pause_until_slice_ends(keeper, job, now_ms);
}

void stdio_timer_ready(struct keeper *keeper, void *owner, uint32_t revents)
{
	uint64_t count;

	(void) owner;
	(void) revents;
	if (read(keeper->timer.fd, &count, sizeof(count)) < 0)
		return;
	for (struct job *job = keeper->jobs; job; job = job->next) {
		if (!job->paused)
			continue;
		job->paused = false;
		job->slice_bytes = 0;
		watch(keeper, &job->out);
		watch(keeper, &job->err);
		watch(keeper, &job->terminal);
	}
}

static void out_ready(struct keeper *keeper, void *owner, uint32_t revents)
{
	struct job *job = owner;

	(void) revents;
	if (read_output(keeper, job, &job->out))
		count_slice(keeper, job);
}

static void err_ready(struct keeper *keeper, void *owner, uint32_t revents)
{
	struct job *job = owner;

	(void) revents;
	if (read_output(keeper, job, &job->err))
		count_slice(keeper, job);
}

static void terminal_ready(struct keeper *keeper, void *owner, uint32_t revents)
{
	struct job *job = owner;

	(void) revents;
	if (read_output(keeper, job, &job->terminal))
		count_slice(keeper, job);
}

/* The terminal has come, or will not come. */
static void console_ready(struct keeper *keeper, void *owner, uint32_t revents)
{
	struct job *job = owner;
	int fd = job->console.fd < 0 ? -EBADF : sock_peek_fd(job->console.fd);
	int r;

	(void) revents;
	if (fd == -EAGAIN)
		return;
	/* From now on it is only kept. */
	unwatch(keeper, &job->console);
	if (fd < 0)
		return;
	source_close(keeper, &job->terminal);
	job->terminal.fd = fd;
	r = fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0
		    ? -errno
		    : source_watch(keeper, &job->terminal, EPOLLIN);
	if (r < 0)
		log_error("job %s: its terminal is not logged: %s", job->id, strerror(-r));
}

void stdio_init(struct job *job)
{
	job->out = (struct source){ -1, job, out_ready };
	job->err = (struct source){ -1, job, err_ready };
	job->console = (struct source){ -1, job, console_ready };
	job->terminal = (struct source){ -1, job, terminal_ready };
	job->in_fd = -1;
}

static int make_fifo(struct keeper *keeper, const char *name, const struct keeper_msg *owner)
{
	unlinkat(keeper->fifo_dir_fd, name, 0);
	if (mkfifoat(keeper->fifo_dir_fd, name, 0600) < 0 ||
	    ((owner->owner_uid || owner->owner_gid) &&
	     fchownat(keeper->fifo_dir_fd, name, owner->owner_uid, owner->owner_gid, 0) < 0))
		return -errno;
	return 0;
}

static int open_fifo(struct keeper *keeper, const char *name, int flags)
{
	int fd = openat(keeper->fifo_dir_fd, name, flags | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int open_output(struct keeper *keeper, struct job *job, struct source *source)
{
	char name[KEEPER_JOB_MAX + 8];

	fifo_name(job->id, source == &job->out ? "out" : "err", name);
	int fd = open_fifo(keeper, name, O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		return fd;
	source->fd = fd;
	return source_watch(keeper, source, EPOLLIN);
}

/* The child's end is open for reading too: without a keeper its writes wait instead of failing. */
static int make_output(struct keeper *keeper, struct job *job, struct source *source,
		       const struct keeper_msg *msg, int *ret_child_fd)
{
	char name[KEEPER_JOB_MAX + 8];
	int r;

	fifo_name(job->id, source == &job->out ? "out" : "err", name);
	r = make_fifo(keeper, name, msg);
	if (r == 0)
		r = open_output(keeper, job, source);
	if (r < 0)
		return r;
	*ret_child_fd = open_fifo(keeper, name, O_RDWR);
	return *ret_child_fd < 0 ? *ret_child_fd : 0;
}

static int make_input(struct keeper *keeper, struct job *job, const struct keeper_msg *msg,
		      int *ret_child_fd)
{
	AUTO(fd_close) int both = -1;
	char name[KEEPER_JOB_MAX + 8];
	int r;

	fifo_name(job->id, "in", name);
	r = make_fifo(keeper, name, msg);
	/* Neither end can be opened before the other one, except by whoever opens both. */
	both = r < 0 ? r : open_fifo(keeper, name, O_RDWR | O_NONBLOCK);
	if (both < 0)
		return both;
	job->in_fd = open_fifo(keeper, name, O_WRONLY | O_NONBLOCK);
	*ret_child_fd = job->in_fd < 0 ? job->in_fd : open_fifo(keeper, name, O_RDONLY);
	return *ret_child_fd < 0 ? *ret_child_fd : 0;
}

static int make_console(struct keeper *keeper, struct job *job, int *ret_child_fd)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	*ret_child_fd = pair[1];
	job->console.fd = pair[0];
	return source_watch(keeper, &job->console, EPOLLIN);
}

int stdio_make(struct keeper *keeper, struct job *job, const struct keeper_msg *msg,
	       struct child_spec *child)
{
	int r;

	if (job->stdio != KEEPER_LOGGED)
		return 0;
	r = make_output(keeper, job, &job->out, msg, &child->out_fd);
	if (r == 0)
		r = make_output(keeper, job, &job->err, msg, &child->err_fd);
	if (r == 0 && job->input == KEEPER_INPUT_FIFO)
		r = make_input(keeper, job, msg, &child->in_fd);
	if (r == 0 && job->input == KEEPER_INPUT_TERMINAL)
		r = make_console(keeper, job, &child->console_fd);
	return r;
}

static void adopt_output(struct keeper *keeper, struct job *job, struct source *source, int fd)
{
	int r;

	source->fd = fd;
	r = fd >= 0 ? source_watch(keeper, source, EPOLLIN) : open_output(keeper, job, source);
	if (r < 0)
		log_warning("job %s: its output is not logged any more: %s", job->id, strerror(-r));
}

void stdio_adopt(struct keeper *keeper, struct job *job, const int fds[STDIO_KEPT])
{
	char name[KEEPER_JOB_MAX + 8];

	if (job->stdio != KEEPER_LOGGED)
		return;
	adopt_output(keeper, job, &job->out, fds[0]);
	adopt_output(keeper, job, &job->err, fds[1]);
	/* An input that was ended has no name any more. */
	fifo_name(job->id, "in", name);
	job->in_fd = fds[2];
	if (job->in_fd < 0 && job->input == KEEPER_INPUT_FIFO)
		job->in_fd = open_fifo(keeper, name, O_WRONLY | O_NONBLOCK);
	job->console.fd = fds[3];
	if (job->console.fd >= 0)
		source_watch(keeper, &job->console, EPOLLIN);
}

void stdio_kept(const struct job *job, int ret_fds[STDIO_KEPT])
{
	ret_fds[0] = job->out.fd;
	ret_fds[1] = job->err.fd;
	ret_fds[2] = job->in_fd;
	ret_fds[3] = job->console.fd;
}

int stdio_hold(struct keeper *keeper, struct job *job, int *console_fd)
{
	if (job->input != KEEPER_INPUT_TERMINAL)
		return -ENOTTY;
	if (job->console.fd >= 0)
		return 0;
	job->console.fd = TAKE_FD(*console_fd);
	source_watch(keeper, &job->console, EPOLLIN);
	console_ready(keeper, job, EPOLLIN);
	/* It may have ended while nobody read. */
	if (job->phase == KEEPER_EXITED || job->phase == KEEPER_FAILED) {
		stdio_drain(keeper, job);
		stdio_close(keeper, job);
	}
	return 0;
}

int stdio_end_input(struct keeper *keeper, struct job *job)
{
	char name[KEEPER_JOB_MAX + 8];

	if (job->input != KEEPER_INPUT_FIFO)
		return -ENOTTY;
	fifo_name(job->id, "in", name);
	unlinkat(keeper->fifo_dir_fd, name, 0);
	fd_close(job->in_fd);
	job->in_fd = -1;
	return 0;
}

/*
 * The process has ended: what it wrote is in the FIFO now.  Bounded, because a process it left
 * behind may go on writing for ever.
 */
void stdio_drain(struct keeper *keeper, struct job *job)
{
	struct source *const sources[] = { &job->out, &job->err, &job->terminal };

	if (job->console.fd >= 0 && job->terminal.fd < 0)
		console_ready(keeper, job, EPOLLIN);
	for (size_t i = 0; i < ARRAY_COUNT(sources); i++)
		for (int round = 0; round < DRAIN_ROUNDS; round++)
			if (!read_output(keeper, job, sources[i]))
				break;
}

void stdio_close(struct keeper *keeper, struct job *job)
{
	source_close(keeper, &job->out);
	source_close(keeper, &job->err);
	source_close(keeper, &job->terminal);
	source_close(keeper, &job->console);
	fd_close(job->in_fd);
	job->in_fd = -1;
	joblog_close(&job->log);
}

void stdio_remove(struct keeper *keeper, const struct job *job)
{
	static const char *const names[] = { "out", "err", "in" };
	char name[KEEPER_JOB_MAX + 8];

	for (size_t i = 0; i < ARRAY_COUNT(names) && job->stdio == KEEPER_LOGGED; i++) {
		fifo_name(job->id, names[i], name);
		unlinkat(keeper->fifo_dir_fd, name, 0);
	}
}
