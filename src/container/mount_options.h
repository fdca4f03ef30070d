#pragma once
/*
 * container/mount_options.h - the options of a mount in config.json as what the kernel takes.
 *
 * Pure.  Used by container/mounts.  Options that are not known belong to the file system.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "codec/oci_spec.h"

struct error;

struct mount_options {
	bool bind;
	bool recursive; /* rbind */
	bool remount;
	bool copy_up;   /* tmpcopyup: a tmpfs begins with what it hides */
	bool copy_link; /* copy-symlink: a source that is a link is made again, not followed */
	bool source_nofollow; /* src-nofollow: the link itself is mounted */
	bool dest_nofollow;   /* dest-nofollow: a link at the destination is mounted on */
	bool idmap_recursive; /* ridmap */
	bool idmap;           /* idmap or ridmap */
	uint64_t set;         /* MOUNT_ATTR_* of this mount */
	uint64_t clear;
	uint64_t set_all; /* of it and everything below (rro ...) */
	uint64_t clear_all;
	uint64_t propagation; /* MS_SHARED..., 0: not said */
	bool propagation_all; /* rshared ... */
	const char **data;    /* the file system's own, NULL-terminated; strings are borrowed */
};

void mount_options_parse(oci_strings options, struct mount_options *ret);
/* One more option for the file system; borrowed. */
void mount_options_add(struct mount_options *options, const char *data);
void mount_options_done(struct mount_options *options);

/* "rslave" -> MS_SLAVE and true; -EINVAL. */
int mount_options_propagation(const char *name, uint64_t *ret, bool *ret_all);

/* The n-th name that this runtime gives a meaning, for `features`; NULL at the end. */
const char *mount_options_name(unsigned int n);
