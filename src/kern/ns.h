#pragma once
/*
 * kern/ns.h - namespaces and the clone3() that makes them.
 *
 * Used by container/.  A namespace is named by its CLONE_NEW* flag.  The caller of ns_clone() must
 * be single-threaded: the child goes on with a copy of everything, without pthread's help.
 */
#include <linux/sched.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

struct ns_clone {
	uint64_t flags; /* CLONE_NEW*, CLONE_PARENT */
	int cgroup_fd;  /* of a cgroup2 folder for the child to be born in, or -1 */
	int pidfd;      /* out: the child */
};

/* Forks: 0 in the child, the pid in the parent, or -errno.  The parent owns args->pidfd. */
pid_t ns_clone(struct ns_clone *args);

/*
 * The same as vfork() does it: the child runs `run` in our memory and on our stack while we wait,
 * until it executes something or exits; then its pid is returned, still to be waited for.  Several
 * times faster than copying.
 */
pid_t ns_vfork(struct ns_clone *args, void (*run)(void *data), void *data);

/* Name of the file in /proc/PID/ns, e.g. "net"; NULL when `flag` is none. */
const char *ns_file_name(uint64_t flag);

/* Opens the namespace at `path`; -EINVAL when it is not one of the kind of `flag`. */
int ns_open(const char *path, uint64_t flag);

/* Opens our own. */
int ns_open_own(uint64_t flag);

/* Whether a process has another namespace of this kind than we have: 1, 0, or -errno. */
int ns_differs(pid_t pid, uint64_t flag);
/* Those of these kinds that are not ours; what the kernel does not know is left out. */
int ns_differing(pid_t pid, uint64_t flags, uint64_t *ret);

/* Maps of a new user namespace, as the lines of uid_map; written by a process outside of it. */
struct ns_id_map {
	uint32_t inside;
	uint32_t outside;
	uint32_t size;
};

int ns_write_id_maps(pid_t pid, const struct ns_id_map *uids, unsigned int uid_count,
		     const struct ns_id_map *gids, unsigned int gid_count);

/* Writes /proc/self/timens_offsets: `clock` is "monotonic" or "boottime". */
int ns_write_time_offset(const char *clock, int64_t secs, uint32_t nanosecs);
