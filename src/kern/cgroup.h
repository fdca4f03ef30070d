#pragma once
/*
 * kern/cgroup.h - control groups of both versions behind one interface.
 *
 * A host has hierarchies: several of version 1 (each with one or more controllers, or a name), one
 * of version 2, or both (hybrid).  A cgroup of ours is the same path in all of them; only folders
 * at and below that path are ever changed (and missing parents made).
 *
 * Used by container/.  Entering: version 1 by the process itself, which writes "0" to `tasks`
 * while it has one thread (the kernel then needs no grace period, unlike for cgroup.procs); version
 * 2 by being born inside (CLONE_INTO_CGROUP).  Not shared between threads.  Nothing is lost in a
 * crash: what exists is read from the kernel.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "kern/cgroup_host.h"

/* Absolute, not "/", without "..". */
bool cgroup_path_good(const char *path);

struct cgroup; /* one path in all hierarchies; borrows the host */

/*
 * Opens `path` ("/brume/UID").  With `create` its folders are made; a cpuset of version 1 gets its
 * parent's processors, and version 2's controllers are switched on above it.  -ENOENT when it
 * exists nowhere; -EINVAL for a path that is "/" or has "..".  On failure what was made is removed.
 */
int cgroup_open(const struct cgroup_host *host, const char *path, bool create, struct cgroup **ret);
void cgroup_free(struct cgroup *cgroup);
DEFINE_AUTO(struct cgroup *, cgroup_free)

/* Whether it has a folder with this controller ("memory"). */
bool cgroup_has(const struct cgroup *cgroup, const char *controller);
/* Whether this controller is in a version 2 hierarchy. */
bool cgroup_is_v2(const struct cgroup *cgroup, const char *controller);

/* Folder of the controller in the kernel's tree; -1 when there is none. */
int cgroup_fd(const struct cgroup *cgroup, const char *controller);
/* Folder in the version 2 tree, -1 when not used. */
int cgroup_v2_fd(const struct cgroup *cgroup);

/* Whether it has a folder in every hierarchy. */
bool cgroup_everywhere(const struct cgroup *cgroup);
/* Our own group in the version 2 tree; the caller frees.  -ENOENT when there is none. */
int cgroup_own_v2(char **ret);
/* A folder of the version 2 tree; -ENOENT when there is none. */
int cgroup_open_v2(const struct cgroup_host *host, const char *path);

/* -EOPNOTSUPP when there is no such controller. */
int cgroup_write(const struct cgroup *cgroup, const char *controller, const char *file,
		 const char *text);
/* Reads a small file; the caller frees. */
int cgroup_read(const struct cgroup *cgroup, const char *controller, const char *file, char **ret);

/*
 * Opens what a child needs to enter version 1: its `tasks` files.  Returns how many, at most
 * CGROUP_HIERARCHIES_MAX; the caller closes them.
 */
int cgroup_open_tasks(const struct cgroup *cgroup, int *fds);
/* For the child: enters.  Async-signal-safe. */
int cgroup_enter(const int *fds, int count);

/* The folders to show inside a container: calls `fn` for every hierarchy. */
typedef int (*cgroup_each_fn)(void *data, const struct cgroup_hierarchy *hierarchy, int dir_fd);
int cgroup_each(const struct cgroup *cgroup, cgroup_each_fn fn, void *data);

/* Stops or continues all processes; returns when it is so, -ETIMEDOUT after two seconds. */
int cgroup_freeze(const struct cgroup *cgroup, bool freeze);
/* 1 frozen, 0 not. */
int cgroup_frozen(const struct cgroup *cgroup);

/* Sends a signal to every process in it and below. */
int cgroup_signal(const struct cgroup *cgroup, int signal_number);

/* Pids in it and below; the caller frees *ret. */
int cgroup_pids(const struct cgroup *cgroup, pid_t **ret, size_t *ret_count);

/* Removes the folders and those below them; -EBUSY while processes are in them. */
int cgroup_remove(const struct cgroup_host *host, const char *path);
