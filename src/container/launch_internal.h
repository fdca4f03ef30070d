#pragma once
/*
 * container/launch_internal.h - what launch and restore share while a container is made.
 */
#include "codec/oci_checkpoint.h"
#include "container/criu.h"
#include "container/init.h"
#include "container/launch.h"
#include "container/launch_ns.h"
#include "container/process.h"
#include "container/rootfs.h"
#include "container/systemd.h"
#include "kern/cgroup.h"

/* Everything that is needed until init is ready, and released then. */
struct launch_work {
	const struct launch_options *options;
	struct launch *launch;
	struct cgroup_host *host;
	struct cgroup *cgroup;
	struct systemd_scope scope;
	struct seccomp_profile seccomp;
	struct process_plan process;
	struct rootfs_plan rootfs;
	struct launch_ns ns;
	struct init_context init;
	struct launch_restore { /* of a container that was checkpointed */
		char *program;
		struct criu_folders folders;
		struct oci_checkpoint checkpoint;
		bool protected; /* the rules about devices are set */
	} restore;
	bool hooks_began;
};

/* The hooks of the moment at which the namespaces are there; they may ask for the state. */
int launch_run_hooks(struct launch_work *work, struct error *err);

/* Looks at images and program, before anything is made. */
int launch_restore_plan(struct launch_work *work, struct error *err);

/* With control groups and file systems planned: has CRIU make the processes again. */
int launch_restore_make(struct launch_work *work, struct error *err);
