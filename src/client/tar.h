#pragma once
/*
 * client/tar.h - turns a folder into a tar while it is read (ustar, with pax records where needed).
 *
 * Used by `brume image import` for OCI layout folders.  One thread.  The folder is walked once at
 * the start; only folders and regular files may be in it, symbolic links are not followed.  A file
 * that changes its size meanwhile is an error, not a broken tar.
 */
#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct error;
struct tar;

enum { TAR_ENTRIES_MAX = 100000 };

/* Walks the folder; nothing of the files is read yet. */
int tar_new(const char *folder, struct tar **ret, struct error *err);

/* The next bytes: a count, 0 at the end, -errno.  Fits client_source_fn when cast by a wrapper. */
ssize_t tar_read(struct tar *tar, void *data, size_t size, struct error *err);

void tar_free(struct tar *tar);
DEFINE_AUTO(struct tar *, tar_free)
