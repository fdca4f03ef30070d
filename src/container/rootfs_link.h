#pragma once
/*
 * container/rootfs_link.h - bind mounts and symbolic links: copy-symlink, src-nofollow and
 * dest-nofollow.
 *
 * Used by rootfs and rootfs_plan.
 */
#include "container/rootfs.h"

struct error;

/* The link at the source as a new string in *ret; NULL when there is something else. */
int rootfs_read_link(const char *source, char **ret, struct error *err);

/* A detached clone of the link itself, if the source is one. */
int rootfs_clone_nofollow(const char *source, bool recursive);

/* Makes the link that rootfs_read_link() found. */
int rootfs_make_link(int root, const char *destination, const char *target, struct error *err);

/*
 * O_PATH descriptor of the place for a mount where the last component may be a link, which is not
 * followed; made when it is missing.
 */
int rootfs_place_nofollow(int root, const char *destination, bool directory, struct error *err);
