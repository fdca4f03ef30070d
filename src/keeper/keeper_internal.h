#pragma once
/*
 * keeper/keeper_internal.h - what the files of the keeper share: its state and its jobs.
 *
 * One thread, one epoll.  keeper.c has the loop and the sockets, job.c the life of a job, stdio.c
 * its pipes and terminal, child.c the way from fork() to exec(), record.c what outlives the
 * process.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "codec/keeper_wire.h"
#include "keeper/joblog.h"
#include "keeper/keeper.h"
#include "keeper/spool.h"

struct keeper;

/* Something epoll watches; events carry its address, one event is taken from the kernel at a time.
 */
struct source {
	int fd; /* -1: nothing */
	void *owner;
	void (*ready)(struct keeper *keeper, void *owner, uint32_t revents);
};

/* An end that nobody was waiting for yet: perhaps of a job whose helper is still to be reaped. */
struct orphan {
	pid_t pid;
	int wait_status;
};

struct job {
	struct job *next;
	char *id;
	enum keeper_mode mode;
	enum keeper_stdio stdio;
	enum keeper_type phase;
	pid_t pid; /* while STARTING in pid file mode: of the helper */
	uint64_t start_time;
	bool child;        /* reaped by us; otherwise watched by `process` */
	bool helper_ended; /* with helper_status, until the reaping round is over */
	int helper_status;
	enum keeper_exit exit_kind;
	int exit_value;
	char *message; /* FAILED: why; STARTING: the last words on stderr */
	char *pid_file;
	struct joblog log;
	struct source out, err, process;
	enum keeper_input input;
	int in_fd;              /* the FIFO's writing end: without one the job would read the end */
	struct source console;  /* the terminal comes here, and stays in its queue */
	struct source terminal; /* its master */
	uint64_t slice_bytes;   /* read since slice_ms */
	int64_t slice_ms;
	bool hung_up; /* nobody has the terminal open */
	bool paused;  /* it writes more than its share: its pipes are full until the next slice */
};

/* Descriptors of a job that are handed on: out, err, in, console. */
enum { STDIO_KEPT = 4 };

struct client {
	struct client *next;
	struct source source;
	bool dead; /* swept after the event */
	char *pending;
	size_t pending_size;
};

enum { ORPHANS_MAX = 256 };

struct keeper {
	const struct keeper_options *options;
	int epoll_fd;
	int lock_fd;
	int record_dir_fd; /* RUN/keeper */
	int fifo_dir_fd;   /* RUN/fifo */
	struct source listener, signals;
	struct source timer; /* the end of the slice of jobs that are paused */
	struct spool *spool;
	struct client *clients;
	struct job *jobs;
	unsigned int orphan_next;
	struct orphan orphans[ORPHANS_MAX];
	bool stop, reexec;
	char message[KEEPER_MSG_MAX]; /* one received request */
	char log_buffer[JOBLOG_BUFFER_SIZE];
};

/* keeper.c */
int source_watch(struct keeper *keeper, struct source *source, uint32_t events);
void source_close(struct keeper *keeper, struct source *source);
void keeper_broadcast(struct keeper *keeper, const struct job *job);
void keeper_add_client(struct keeper *keeper, int fd);
void keeper_listen_ready(struct keeper *keeper, void *owner, uint32_t revents);

/* job.c */
struct job *job_find(struct keeper *keeper, const char *id);
void job_start(struct keeper *keeper, const struct keeper_msg *msg, const int *fds);
int job_signal(struct job *job, int signal_number);
int job_forget(struct keeper *keeper, struct job *job);
void job_reap_all(struct keeper *keeper);
void job_free(struct keeper *keeper, struct job *job);
/* Puts a job that another keeper started under this one; `fds`: see stdio_adopt().
 */
void job_adopt(struct keeper *keeper, const struct keeper_msg *record, const int fds[STDIO_KEPT]);
/* What the job does now, as the event that agents get; borrows from the job. */
void job_describe(const struct job *job, struct keeper_msg *ret);
/* For others than job.c: what a job says while it starts is why it fails. */
void job_add_last_words(struct job *job, const char *text, size_t size);

/* stdio.c */
void stdio_init(struct job *job);
/* Makes the FIFOs and the console, opens our ends. */
struct child_spec;
int stdio_make(struct keeper *keeper, struct job *job, const struct keeper_msg *msg,
	       struct child_spec *child);
/* Descriptors of an adopted job: -1 are opened by name. */
void stdio_adopt(struct keeper *keeper, struct job *job, const int fds[STDIO_KEPT]);
void stdio_kept(const struct job *job, int ret_fds[STDIO_KEPT]);
/* The agent brings the console back. */
int stdio_hold(struct keeper *keeper, struct job *job, int *console_fd);
int stdio_end_input(struct keeper *keeper, struct job *job);
/* Logs what is in the pipes now. */
void stdio_drain(struct keeper *keeper, struct job *job);
void stdio_close(struct keeper *keeper, struct job *job);
void stdio_remove(struct keeper *keeper, const struct job *job);
void stdio_timer_ready(struct keeper *keeper, void *owner, uint32_t revents);

/* child.c */
struct child_spec {
	const struct keeper_msg *msg;
	const int *fds;                        /* as sent by the agent */
	int out_fd, err_fd, in_fd, console_fd; /* KEEPER_LOGGED; the child's ends, or -1 */
};
/*
 * Forks; the child waits until a byte is written to *ret_go_fd and ends when it is closed instead,
 * so nothing ever runs that is not on record.  0 or -errno.
 */
int child_fork(const struct child_spec *spec, pid_t *ret_pid, int *ret_go_fd);
/* Limits and priorities that a keeper wants for itself and its children must not inherit. */
void child_protect_self(void);

/* record.c */
int record_save(struct keeper *keeper, const struct job *job);
void record_remove(struct keeper *keeper, const struct job *job);
/* Adopts every job that has a record and is not known yet. */
void record_adopt_all(struct keeper *keeper);
/* Executes the binary anew; returns only when that failed. */
int record_reexec(struct keeper *keeper);
/* Takes over what record_reexec() handed on. */
int record_resume(struct keeper *keeper, int state_fd, struct error *err);
