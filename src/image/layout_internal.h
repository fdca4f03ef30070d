#pragma once
/*
 * image/layout_internal.h - writing an OCI layout as a tar, as far as the reader takes it.
 *
 * Used by export and commit.  One thread; blocks.
 */
#include <stdint.h>

#include "image/info.h"

struct archive;
struct error;
struct image_store;

struct layout {
	int output_fd, cancel_fd;
	int result; /* of writing, which libarchive does not carry */
	struct archive *archive;
};

int layout_begin(struct layout *layout, int output_fd, int cancel_fd, struct error *err);

/* `name` in the tar.  The descriptor is read from its beginning. */
int layout_text(struct layout *layout, const char *name, const char *text, struct error *err);
int layout_file(struct layout *layout, const char *name, int fd, struct error *err);

/* The marker, the index that names the manifest, and the folders of blobs. */
int layout_head(struct layout *layout, const struct image_info *info, struct error *err);

int layout_end(struct layout *layout, struct error *err);
/* Some of the bytes, once the output takes them: a count, -ECANCELED when it is not wanted. */
ssize_t layout_write(int output_fd, int cancel_fd, const void *bytes, size_t size);

void layout_done(struct layout *layout);
