#pragma once
/*
 * container/runtime.h - what the command line said, for all verbs.
 */
#include <stdbool.h>

struct runtime_options {
	const char *root; /* folder of the records */
	const char *log;  /* file, or NULL: stderr */
	bool log_json;
	bool systemd;   /* it makes the control groups */
	bool no_cgroup; /* --cgroup-manager=disabled */
	/* Control groups that may not be made are done without; absent: when we are not root. */
	enum runtime_rootless {
		RUNTIME_ROOTLESS_AUTO,
		RUNTIME_ROOTLESS_YES,
		RUNTIME_ROOTLESS_NO
	} rootless;
	bool entered; /* we are in the container's user namespace, see rootless.h */
};
