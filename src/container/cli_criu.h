#pragma once
/*
 * container/cli_criu.h - the words that checkpoint and restore share.
 */
#include <getopt.h>

#include "container/criu.h"
#include "container/runtime.h"

enum {
	CLI_CRIU_IMAGES = 1000,
	CLI_CRIU_WORK,
	CLI_CRIU_PARENT,
	CLI_CRIU_LEAVE_RUNNING,
	CLI_CRIU_PRE_DUMP,
	CLI_CRIU_TCP_ESTABLISHED,
	CLI_CRIU_TCP_SKIP,
	CLI_CRIU_TCP_CLOSE,
	CLI_CRIU_EXT_UNIX,
	CLI_CRIU_SHELL_JOB,
	CLI_CRIU_FILE_LOCKS,
	CLI_CRIU_LINK_REMAP,
	CLI_CRIU_AUTO_DEDUP,
	CLI_CRIU_CGROUPS,
	CLI_CRIU_EMPTY_NS,
	CLI_CRIU_LAZY_PAGES,
	CLI_CRIU_PAGE_SERVER,
	CLI_CRIU_LSM_PROFILE,
	CLI_CRIU_LSM_MOUNT,
	CLI_CRIU_LAST
};

#define CLI_CRIU_OPTIONS                                                                           \
	{ "image-path", required_argument, NULL, CLI_CRIU_IMAGES },                                \
		{ "work-path", required_argument, NULL, CLI_CRIU_WORK },                           \
		{ "tcp-established", no_argument, NULL, CLI_CRIU_TCP_ESTABLISHED },                \
		{ "ext-unix-sk", no_argument, NULL, CLI_CRIU_EXT_UNIX },                           \
		{ "shell-job", no_argument, NULL, CLI_CRIU_SHELL_JOB },                            \
		{ "file-locks", no_argument, NULL, CLI_CRIU_FILE_LOCKS },                          \
		{ "auto-dedup", no_argument, NULL, CLI_CRIU_AUTO_DEDUP },                          \
		{ "manage-cgroups-mode", required_argument, NULL, CLI_CRIU_CGROUPS },              \
		{ "empty-ns", required_argument, NULL, CLI_CRIU_EMPTY_NS },                        \
	{                                                                                          \
		"lazy-pages", no_argument, NULL, CLI_CRIU_LAZY_PAGES                               \
	}

#define CLI_CRIU_RESTORE_OPTIONS                                                                   \
	{ "tcp-close", no_argument, NULL, CLI_CRIU_TCP_CLOSE },                                    \
		{ "lsm-profile", required_argument, NULL, CLI_CRIU_LSM_PROFILE },                  \
	{                                                                                          \
		"lsm-mount-context", required_argument, NULL, CLI_CRIU_LSM_MOUNT                   \
	}

/* Where runc and crun have the images when nothing is said. */
#define CLI_CRIU_DEFAULTS                                                                          \
	{                                                                                          \
		.image_path = "checkpoint", .cgroups = CRIU_CGROUPS_SOFT                           \
	}

/* One option of these; 0, or an exit code after an error was said. */
int cli_criu_option(const struct runtime_options *runtime, const char *verb, int option,
		    struct criu_options *ret);

/* CRIU can only be used by the machine's root. */
int cli_criu_allowed(const struct runtime_options *runtime, struct error *err);
