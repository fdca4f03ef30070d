#pragma once
/*
 * container/exec.h - one more process in a running container.
 *
 * It joins init's namespaces, control groups and root, and gets the same limits: capabilities,
 * filter and so on come from the container's config.json unless the process document says
 * otherwise.  Until it is ready it dies with the runtime.
 */
#include <stdbool.h>
#include <sys/types.h>

#include "codec/oci_spec.h"
#include "container/record.h"

struct error;

struct exec_options {
	const char *root;
	const char *console_socket; /* or NULL */
	const char *pid_file;       /* or NULL */
	const char *pidfd_socket;   /* or NULL */
	const char *cgroup;         /* below the container's, or NULL */
	bool no_new_keyring;
	bool ignore_paused; /* wait in the frozen group instead of failing */
	bool entered;       /* we are in the container's user namespace, see rootless.h */
	bool detach;
	unsigned int preserve;             /* descriptors after stdio that the program inherits */
	const struct oci_process *process; /* what to run */
};

struct exec {
	pid_t pid;
	int pidfd;
	int console_fd; /* where the terminal's master comes, or -1 */
};

/* On success the program runs. */
int exec_start(const struct record *record, const struct oci_spec *spec,
	       const struct exec_options *options, struct exec *ret, struct error *err);

void exec_done(struct exec *exec);
