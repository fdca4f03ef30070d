#pragma once
/*
 * container/launch.h - makes a container: everything from config.json to an init that waits.
 *
 * Used by create and run.  Whatever fails, and whenever, nothing is left: process, control groups,
 * record.  When the runtime itself is killed, init notices and ends; what is on the disk then is
 * taken away by `delete --force`.
 */
#include <stdbool.h>

#include "base/cleanup.h"
#include "container/record.h"
#include "container/runtime.h"

struct criu_options;
struct error;
struct oci_spec;

struct launch_options {
	const char *root;
	const char *id;
	const char *bundle;
	const char *console_socket; /* or NULL */
	int console_fd;             /* instead of connecting: a socket that is open, or -1 */
	const char *pid_file;       /* or NULL */
	const char *pidfd_socket;   /* or NULL */
	int rootfs_fd;              /* a detached mount instead of root.path, or -1 */
	unsigned int preserve;      /* descriptors after stdio that the program inherits */
	unsigned int listen;        /* of these, the sockets that LISTEN_FDS tells it of */
	bool no_pivot;
	bool no_new_keyring;
	bool systemd;   /* it makes the control group, see systemd.h */
	bool no_cgroup; /* none is made, and limits are refused */
	enum runtime_rootless rootless;
	bool entered;    /* the new user namespace is the one we are in */
	bool foreground; /* the terminal is for us; start comes from launch_start() */
	const struct criu_options *restore; /* made again from images; runs at once; or NULL */
	bool direct; /* start comes from launch_start(), not from another process */
};

struct launch {
	struct record *record;
	struct oci_spec *spec;
	int pidfd;
	int sync_fd;    /* to init, while it has not begun */
	int console_fd; /* where the terminal's master comes, or -1 */
};

/* On success init is ready and the record is saved. */
int launch_create(const struct launch_options *options, struct launch **ret, struct error *err);

/* With `direct`: lets init become the program, and runs the poststart hooks. */
int launch_start(struct launch *launch, struct error *err);

void launch_free(struct launch *launch);
DEFINE_AUTO(struct launch *, launch_free)
