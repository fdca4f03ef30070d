#pragma once
/*
 * kern/idmap.h - idmapped mounts: the same files, seen with other owners.
 *
 * A mapping lives in a user namespace; idmap_userns_new() makes one without any process in it.
 * Used by image/ and volumes.  Thread-safe; needs CAP_SYS_ADMIN in the file system's namespace.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct idmap_range {
	uint32_t inside;  /* first id on the disk */
	uint32_t outside; /* first id as it is seen through the mount */
	uint32_t count;
};

/* A new user namespace with these ranges for users and groups; *ret is its fd. */
int idmap_userns_new(const struct idmap_range *ranges, size_t count, int *ret_fd);

/*
 * A detached copy of the mount under the folder `fd` (from that folder down), seen through the
 * mapping of `userns_fd`.  With `read_only` it can not be written through.  *ret is its fd.
 */
int idmap_clone_mount(int fd, int userns_fd, bool read_only, int *ret_fd);
