#pragma once
/*
 * agent/grant.h - what the node's policy gives to one run of an instance, as open descriptors.
 *
 * The policy's text only chooses an entry; what is given is what the kernel found below the
 * entry's folder without leaving it (openat2, RESOLVE_BENEATH).  The descriptor goes through the
 * keeper to brume-oci, so nothing is looked up by name a second time.  Blocking; for any thread.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/policy.h"
#include "model/run_options.h"

enum {
	GRANTS_FIRST_CHILD_FD = 4, /* 3 is the root file system */
	GRANTS_MAX = RUN_OPTIONS_GRANTS_MAX,
};

struct grant {
	int fd; /* -1: not of this kind */
	int child_fd;
	/* Folders. */
	bool read_only;
	enum policy_idmap idmap;
	uint32_t uid, gid;
	/* Devices. */
	bool block;
	unsigned int major, minor;
};

struct grants {
	struct grant *mounts; /* one for each mount of the options */
	size_t mount_count;
	struct grant *devices;
	size_t device_count;
};

struct grants_args {
	const char *policy_path;
	const char *project;
	const struct run_options *run;
	const char *devices_dir;     /* nodes are made in here, for the instance's root */
	uint32_t root_uid;           /* of the instance, on the node */
	const char *state, *run_dir; /* the node's own folders, which nobody gets */
};

/* -EPERM when the policy does not give it: `err` says what and where to allow it. */
int grants_open(const struct grants_args *args, struct grants **ret, struct error *err);

/* The descriptors and their numbers in the child; `fds` and `as` have room for GRANTS_MAX. */
unsigned int grants_list(const struct grants *grants, int *fds, int *as);

void grants_free(struct grants *grants);
DEFINE_AUTO(struct grants *, grants_free)
