#pragma once
/*
 * container/launch_ns.h - the namespaces of a container: which are joined, which are made, and the
 * fork that does both.
 *
 * An existing namespace (all but user and mount) is joined by the runtime itself for the moment of
 * the fork, because only it has the right to.  New ones are made by that one clone3(), so that they
 * belong to the new user namespace.  Into an existing user or control group namespace a helper
 * process goes first, and forks init as our child.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "codec/oci_spec.h"

struct error;

struct launch_ns {
	int path_fds[OCI_NS_COUNT]; /* to be joined by us, -1: not */
	int own_fds[OCI_NS_COUNT];  /* the way back */
	int mount_fd;               /* to be joined by init, or -1 */
	int user_fd;                /* to be joined by the helper, or -1 */
	uint64_t flags;             /* of clone3 */
	uint64_t later;             /* CLONE_NEWCGROUP: init makes it when it is in its groups */
	bool new_user_ns;
	bool new_time_ns; /* with offsets, which can only be set before somebody is in it */
	const struct oci_spec *spec;
};

void launch_ns_init(struct launch_ns *ns);
/* With `entered` the new user namespace is the one we are in, see rootless.h. */
int launch_ns_plan(const struct oci_spec *spec, bool entered, struct launch_ns *ret,
		   struct error *err);
void launch_ns_done(struct launch_ns *ns);

/* 0 in the child; its pid and *ret_pidfd in the runtime, which is back in its own namespaces. */
pid_t launch_ns_fork(struct launch_ns *ns, int cgroup_fd, int *ret_pidfd, struct error *err);

/* Writes the maps of a new user namespace. */
int launch_ns_map(const struct launch_ns *ns, pid_t pid, struct error *err);

/* The CLONE_NEW* flag. */
uint64_t launch_ns_flag(enum oci_ns ns);
