#pragma once
/*
 * guest/spawn.h - one process in the machine: the image's command, or one of exec.
 *
 * The child becomes what the process document says (user, groups, limits, capabilities, folder) and
 * executes; when it cannot, the caller hears why.  brume-init has left its pid namespace for
 * children (unshare), so the first one that is spawned is process 1 of the command's world and all
 * others live in there with it.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct error;
struct oci_process;

/* As shells have it: a program that is not there, or none. */
enum { SPAWN_MISSING = 127, SPAWN_UNUSABLE = 126 };

struct spawn {
	const struct oci_process *process;
	const char *const *args; /* instead of process->args; NULL: those */
	char *const *env;        /* "NAME=value" in addition */
	const char *user;        /* "NAME[:GROUP]" instead of process->user; NULL: that */
	const char *cwd;         /* NULL: process->cwd */
	int stdio[3];            /* the child's; with a terminal all of them its slave */
	bool terminal;
	bool first;   /* makes the /proc of the new pid namespace */
	bool reap;    /* the child is a small init, the program its child */
	bool limited; /* enters the instance's control group */
};

/* *ret_code is 127, 126 or 1 when it fails. */
int spawn(const struct spawn *spawn, pid_t *ret_pid, int *ret_code, struct error *err);

/*
 * A function instead of a program, with user 0 and all rights, for work that would block the loop.
 * It writes its answer to standard output; a failure is told through *err and exit code 1.
 */
typedef int (*spawn_work_fn)(void *data, struct error *err);
int spawn_work(spawn_work_fn work, void *data, const int stdio[3], pid_t *ret_pid,
	       struct error *err);

/* A pair of terminal ends. */
int spawn_terminal(uint32_t width, uint32_t height, int *ret_master, int *ret_slave,
		   struct error *err);
