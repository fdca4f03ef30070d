#pragma once
/*
 * kern/pidfd.h - processes that are named without the danger of a reused pid.
 *
 * Used by keeper/ (adopted jobs, which are not its children) and agent/.  A process is identified
 * by its pid together with its start time; a pidfd is the same thing as a descriptor.  No state;
 * thread-safe.
 */
#include <stdint.h>
#include <sys/types.h>

struct pidfd_stat {
	char state; /* 'R', 'S', 'Z', ... */
	pid_t parent;
	uint64_t start_time; /* clock ticks after boot: with the pid, the process's identity */
	int wait_status;     /* meaningful for a zombie, when we may see it */
};

/* What /proc/PID/stat says; -ESRCH when there is no such process. */
int pidfd_read_stat(pid_t pid, struct pidfd_stat *ret);

/* Parses the text of /proc/PID/stat; -EBADMSG. */
int pidfd_parse_stat(const char *text, struct pidfd_stat *ret);

/* Opens the process `pid` if it started at `start_time`; returns the fd, or -ESRCH when it is gone.
 */
int pidfd_open_started(pid_t pid, uint64_t start_time);

/* Opens whoever has this pid now; -ESRCH when nobody has. */
int pidfd_open_pid(pid_t pid);

int pidfd_send(int pidfd, int signal_number);

/*
 * The wait status of an ended process that need not be our child: from the kernel (6.15 and later)
 * when it was reaped, from /proc while it is a zombie.  -ENODATA when nobody knows any more.
 */
int pidfd_exit_status(int pidfd, pid_t pid, int *ret_wait_status);
