#pragma once
/*
 * kern/proc.h - what the kernel tells about a process in /proc.
 *
 * The texts carry what the process itself chose (its name, its command line): they are bounded here
 * and must be made harmless before they are shown.  Used by agent/top.c and guest/.  No state,
 * thread-safe.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { PROC_NAME_SIZE = 64, PROC_COMMAND_SIZE = 1024 };

struct proc {
	pid_t pid;        /* as we see it */
	pid_t inside_pid; /* in the first pid namespace below ours; the same as pid without one */
	uid_t uid;        /* effective, as we see it */
	char state;       /* 'R', 'S', 'D', 'T', 'Z', ... */
	uint64_t cpu_ms;  /* user and system */
	uint64_t rss_bytes;
	char name[PROC_NAME_SIZE];
	char command[PROC_COMMAND_SIZE]; /* arguments, each ended by NUL */
	size_t command_size;             /* 0: a kernel thread or a zombie */
};

/* `proc_fd` is /proc.  -ESRCH when there is no such process any more. */
int proc_read(int proc_fd, pid_t pid, struct proc *ret);

/* The texts of /proc/PID/stat and /proc/PID/status; -EINVAL when they are not understood. */
int proc_parse_stat(const char *text, struct proc *proc);
int proc_parse_status(const char *text, struct proc *proc);

/*
 * The command line for people, as it was typed; "[name]" when there is none.  The caller frees.
 * What is not printable is escaped.
 */
char *proc_command(const struct proc *proc);
