#pragma once
/*
 * agent/oci.h - brume-oci as the agent's steps call it: short commands, run and waited for.
 *
 * For worker threads: blocks until the command has ended.  The container's own process is not a
 * child of these commands; `create` and `exec` go through the keeper instead.
 */
#include "base/cleanup.h"

struct agent_options;
struct error;

/*
 * Runs `brume-oci --root RUN/oci ARGV...`; what it says on stderr becomes the error.  `ret_out`
 * (may be NULL) is its standard output, 64 KiB at most.
 */
int oci_run(const struct agent_options *options, char *const *argv, char **ret_out,
	    struct error *err);

/* A command whose only argument is the container. */
int oci_do(const struct agent_options *options, const char *command, const char *uid,
	   struct error *err);

enum oci_status {
	OCI_STATUS_NONE,
	OCI_STATUS_CREATED,
	OCI_STATUS_RUNNING,
	OCI_STATUS_PAUSED,
	OCI_STATUS_STOPPED
};

/* What `state` says; NONE when there is no such container. */
int oci_state(const struct agent_options *options, const char *uid, enum oci_status *ret,
	      struct error *err);

/* Takes the container away whatever it is doing; one that is not there is fine. */
int oci_delete(const struct agent_options *options, const char *uid, struct error *err);

/*
 * The same for one of which nothing is left but its folder: init is reaped, its control groups are
 * removed, its bundle has no hooks.  No program is started.  -EBUSY when a command works on it.
 */
int oci_forget(const struct agent_options *options, const char *uid, struct error *err);
