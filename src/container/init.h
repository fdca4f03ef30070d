#pragma once
/*
 * container/init.h - the container's first process, from its birth to the user's program.
 *
 * Forked by launch with the new namespaces; a copy of the runtime, single-threaded, with all plans
 * in memory.  Talks to the runtime through sync.h and dies with it until it is ready; after that it
 * waits for `start` (a connection to start.sock, or a message for `run`).
 */
#include "codec/oci_state.h"
#include "container/process.h"
#include "container/rootfs.h"

struct init_context {
	const struct oci_spec *spec;
	struct rootfs_plan *rootfs;
	struct process_plan *process;
	struct oci_state *state; /* for hooks and the listener */
	int sync_fd;
	int start_fd; /* listening start.sock; -1: start comes through sync_fd */
	int tasks[CGROUP_HIERARCHIES_MAX];
	int task_count;
	int mount_ns_fd; /* to join, or -1 */
	uint64_t later;  /* CLONE_NEW* flags to unshare in the child (cgroup) */
	int console_fd;  /* socket for the terminal's master, or -1 */
	bool new_user_ns;
	bool create_hooks; /* prestart, createRuntime or createContainer: the runtime begins them */
};

/* Never returns. */
void init_main(struct init_context *init) __attribute__((noreturn));
