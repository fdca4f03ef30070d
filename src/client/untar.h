#pragma once
/*
 * client/untar.h - unpacks a tar below one folder of this machine, as its bytes come.
 *
 * Used by `brume cp` for what an instance sends, which is not trusted: names are taken apart and
 * opened component by component, never through a link, so nothing outside the folder is touched;
 * devices are not made, and set-user-id bits not kept.  One thread.  What is cut off half-way
 * leaves what was there so far.
 */
#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

struct error;
struct untar;

struct untar_options {
	int dir_fd;       /* borrowed */
	const char *name; /* instead of the first component of all names; NULL: that is left out */
	bool keep_ids;    /* give files their owners, as far as we may */
};

struct untar *untar_new(const struct untar_options *options);

int untar_feed(struct untar *untar, const void *data, size_t size, struct error *err);

/* After the last byte: sets the folders' modes and times.  -EBADMSG when the tar is cut off. */
int untar_end(struct untar *untar, struct error *err);

/* How many devices and the like were left out, and how many files lost set-user-id bits. */
unsigned int untar_skipped(const struct untar *untar);
unsigned int untar_lowered(const struct untar *untar);

void untar_free(struct untar *untar);
DEFINE_AUTO(struct untar *, untar_free)
