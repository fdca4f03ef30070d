#pragma once
/*
 * kern/mount.h - mounts as file descriptors, and paths that cannot leave a root.
 *
 * A mount is made or cloned *detached* (a descriptor that nobody else sees), gets its attributes,
 * and is attached to a place that is a descriptor too; no path is looked up twice, so nothing can
 * be swapped in between.  Used by container/.  All functions return an fd, 0 or -errno.
 * Thread-safe.  A detached mount that nobody attached goes away with its descriptor.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Clones the mount at `path` (with what is mounted below it if `recursive`). */
int mount_clone(int dir_fd, const char *path, bool recursive);

/*
 * Makes a new file system.  `options` are its own ones, "key" or "key=value"; `attr` are
 * MOUNT_ATTR_* of the mount.  When the kernel has something to say about a failure, it is copied to
 * `ret_why` (may be NULL).
 */
int mount_make(const char *type, const char *source, const char *const *options, uint64_t attr,
	       char *ret_why, size_t why_size);

/* Gives the file system of a mount other options of its own; `mount_fd` may be O_PATH. */
int mount_reconfigure(int mount_fd, const char *const *options, char *ret_why, size_t why_size);

/* Changes attributes (MOUNT_ATTR_*) and, when not 0, propagation (MS_SHARED...). */
int mount_change(int dir_fd, const char *path, bool recursive, uint64_t set, uint64_t clear,
		 uint64_t propagation);

/* Puts the detached mount on the place `target_fd` (an O_PATH descriptor). */
int mount_attach(int mount_fd, int target_fd);

/* What may stand at the end of the path. */
enum mount_place { MOUNT_PLACE_DIR, MOUNT_PLACE_FILE };

/* O_PATH descriptor of `path` inside of `root_fd`; links cannot lead out of it. */
int mount_open_in_root(int root_fd, const char *path, int flags);

/* The same for a path that must not have a link in it: -ELOOP then. */
int mount_open_plain(int root_fd, const char *path, int flags);

/* As mount_open_in_root(); what is missing of the path is created, through dangling links too. */
int mount_create_in_root(int root_fd, const char *path, enum mount_place place, mode_t mode);

/*
 * Opens the folder that holds the last component of `path`, created when missing, and says where
 * the name of the component starts in `path`.  -EINVAL when there is none ("/", "..").
 */
int mount_open_parent_in_root(int root_fd, const char *path, const char **ret_name);

/* Makes `new_root_fd` (the root of a mount) the root of the mount namespace; the old one is gone.
 */
int mount_pivot(int new_root_fd);

/* For roots that cannot be pivoted from (initramfs): `new_root_fd` already lies over "/". */
int mount_chroot(int new_root_fd);
