#pragma once
/*
 * kern/overlay.h - overlayfs as a detached mount.
 *
 * Two ways to the same result: the mount API with one `lowerdir+` per layer (Linux 6.5 and later),
 * and, where the kernel has not got it, an ordinary mount with short names in a mount namespace of
 * a helper thread, from which the result is cloned.  overlay_mount() tries the first, then the
 * second. Used by image/.  Thread-safe; needs CAP_SYS_ADMIN.
 */
#include <stddef.h>

#include "kern/idmap.h"

struct error;

enum { OVERLAY_LOWER_MAX = 500 };

struct overlay_config {
	int base_fd;              /* folder that the lower names are below */
	int base_userns_fd;       /* its lower layers are seen through this mapping, see idmap.h */
	const char *const *lower; /* relative to base_fd, topmost first */
	size_t lower_count;
	const char *upper; /* absolute paths */
	const char *work;
};

/* *ret is the fd of the mount, in no mount namespace. */
int overlay_mount(const struct overlay_config *config, int *ret_fd, struct error *err);

/* The two ways by themselves, for the tests. */
int overlay_mount_fsconfig(const struct overlay_config *config, int *ret_fd, struct error *err);
int overlay_mount_classic(const struct overlay_config *config, int *ret_fd, struct error *err);
