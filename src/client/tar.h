#pragma once
/*
 * client/tar.h - turns a folder into a tar while it is read (ustar, with pax records where needed).
 *
 * Used by `brume image import` for OCI layout folders, which hold folders and regular files only,
 * and by `brume cp` for all that a tar can say.  One thread.  The tree is walked once at the start;
 * symbolic links are not followed.  A file that shrinks meanwhile is an error, not a broken tar.
 */
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct error;
struct tar;

enum { TAR_ENTRIES_MAX = 100000, TAR_TREE_ENTRIES_MAX = 8000000 };

/* Walks the folder; nothing of the files is read yet. */
int tar_new(const char *folder, struct tar **ret, struct error *err);

/*
 * A file, link or folder of any kind as entries that begin with `name`; `follow`: when `path`
 * itself is a link, what it leads to.  With `name` NULL what is in the folder, without the folder
 * itself. Sockets are left out, devices refused.
 */
int tar_new_tree(const char *path, const char *name, bool follow, struct tar **ret,
		 struct error *err);

/* The next bytes: a count, 0 at the end, -errno.  Fits client_source_fn when cast by a wrapper. */
ssize_t tar_read(struct tar *tar, void *data, size_t size, struct error *err);

void tar_free(struct tar *tar);
DEFINE_AUTO(struct tar *, tar_free)
