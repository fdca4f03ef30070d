#pragma once
/*
 * container/process.h - the user's program: who it is, what it may, and its execution.
 *
 * The runtime makes a plan while everything can still be refused with good words; the forked child
 * carries it out in three steps (prepare inside the container, drop, execute).  Used by the
 * container's init and by exec.
 */
#include <stdbool.h>
#include <sys/resource.h>

#include "codec/oci_spec.h"
#include "codec/oci_state.h"
#include "container/number_list.h"
#include "container/seccomp_profile.h"
#include "kern/caps.h"

struct error;

/*
 * Codes of struct error for a program that is not there or cannot be executed.  No errno says it
 * unmistakably, and callers make the exit codes of it that shells use (127, 126).
 */
enum { PROCESS_MISSING = -10127, PROCESS_UNUSABLE = -10126 };

/* 127, 126, or 1 for any other failure. */
int process_exit_code(int r);

struct process_limit {
	int resource;
	struct rlimit limit;
};

struct process_plan {
	const struct oci_process *spec;
	const char *personality; /* or NULL */
	bool drop_caps;          /* process.capabilities was given */
	struct caps caps;
	struct process_limit *limits;
	size_t limit_count;
	int io_priority; /* -1: as it is */
	int scheduler;   /* policy, -1: as it is */
	uint64_t scheduler_flags;
	int memory_mode; /* of set_mempolicy(), -1: as it is */
	struct number_set memory_nodes;
	struct number_set cpus_initial; /* of exec; no processor: as they are */
	struct number_set cpus_final;
	const struct seccomp_profile *seccomp;
	int listener_fd; /* connected to seccomp.listener_path, or -1 */
	bool new_keyring;
	bool user_ns;          /* it runs in another user namespace than ours */
	unsigned int preserve; /* descriptors after stdio that the program inherits */
	unsigned int listen;   /* of these, so many first ones are sockets that it is told of */
	bool exec;             /* not the container's first process */
};

/* All but `ret` are borrowed.  Nothing is changed. */
int process_plan_make(const struct oci_process *process, const struct oci_linux *linux_,
		      const struct seccomp_profile *seccomp, struct process_plan *ret,
		      struct error *err);
void process_plan_done(struct process_plan *plan);

/*
 * For the runtime, what only it may do for the child: the owner of its stdio, oom_score_adj,
 * raising hard limits.
 */
int process_adjust(const struct process_plan *plan, pid_t pid, struct error *err);

/*
 * For the child, inside the container's root: session keyring, scheduling, user and
 * groups, capabilities, working folder; finds the program.  *ret_path is where.
 */
int process_prepare(const struct process_plan *plan, char **ret_path, struct error *err);

/*
 * For the child, before anything of the container runs beside it: closes what only its making
 * needed (folders of the host), except `keep` (at most PROCESS_KEEP_MAX, each may be -1), the
 * listener and what the program inherits.
 */
enum { PROCESS_KEEP_MAX = 6 };
void process_close_others(const struct process_plan *plan, const int *keep, size_t count);

/* For the child of exec: runs on these processors from now on, if there are any. */
int process_set_cpus(const struct number_set *cpus, const char *property, struct error *err);

/*
 * The last step: filter, limits, execution.  `pid` is ours as the runtime sees it.  Returns only on
 * failure.
 */
int process_execute(const struct process_plan *plan, const char *path,
		    const struct oci_state *state, pid_t pid, struct error *err);
