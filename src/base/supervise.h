#pragma once
/*
 * base/supervise.h - keeps a few programs running: the root half of brumed where no service manager
 * does it.
 *
 * Starts each program, starts it again when it ends (after 100 ms, then twice as long each time, 5
 * s at most), and hands it listening sockets the way systemd does, so that a program killed at any
 * moment loses no connection attempt.  A program that an earlier supervisor left behind (it holds
 * its lock) is watched instead of being started again.
 * SIGTERM and SIGINT end the programs and the supervision.  Parses nothing.  Single-threaded.
 */
#include <stdbool.h>

struct error;

enum { SUPERVISE_FDS_MAX = 4 };

struct supervise_program {
	const char *name;  /* for the log */
	char *const *argv; /* argv[0] is the path */
	const char
		*lock_path; /* the program holds this pid file locked while it runs; may be NULL */
	bool leads;         /* when it ends with 0, or its first start fails, all ends */

	/*
	 * Called before each start that finds the program not running; fills in the sockets.  May
	 * be NULL.
	 */
	int (*prepare)(struct supervise_program *program, struct error *err);
	void *data;
	int fds[SUPERVISE_FDS_MAX];
	const char *fd_names[SUPERVISE_FDS_MAX];
	unsigned int fd_count;
};

/*
 * Runs until it is told to end.  Returns the exit code for the process: 0; or that of a program
 * that ended with 2 (a usage error is not repeated) or of a leader that failed at once.  Negative:
 * the supervision itself failed.
 */
int supervise_run(struct supervise_program *programs, unsigned int count, struct error *err);

/* The process that holds the lock of a pid file, or 0. */
int supervise_lock_holder(const char *lock_path);
