#pragma once
/*
 * image/upper.h - what an instance has changed: its upper folder against the image's layers.
 *
 * Read by a short-lived brume-image-worker (sandbox_enter_reader()): it sees read-only clones of
 * the upper folder and of the layers without devices, follows no link, and parses nothing but
 * names. What brume itself makes in an upper folder - empty places to mount on - does not count.
 * Used by the agent.  Thread-safe; the calls block.  A crash of the caller ends the worker.
 */
#include <stdbool.h>
#include <stdint.h>

#include "codec/digest.h"

struct error;
struct image_store;

struct image_upper {
	const char *dir;           /* the upper folder; NULL: the topmost of the layers itself */
	char *const *layers;       /* diff ids below it, lowest first */
	uint32_t owner_base;       /* host id of user 0 in `dir` */
	char *const *mount_points; /* absolute; may be NULL */
	int cancel_fd;             /* readable: stop; or -1 */
};

/*
 * Writes {"type":"sync","metadata":[{"kind":"A","path":"/new"}, ...]} to `output_fd`: kinds A
 * (added), C (changed) and D (deleted), in the order of the paths, folders before what is in them.
 * Bytes in paths that are not UTF-8 become U+FFFD.
 */
int image_changes(struct image_store *store, const struct image_upper *upper, int output_fd,
		  struct error *err);

struct image_layer_made {
	struct digest digest;  /* of the gzip file */
	struct digest diff_id; /* of the tar in it */
	uint64_t size_bytes;   /* of the file */
};

/*
 * Writes the changes as a layer: a tar with whiteouts, in a fixed order, gzip.  `progress` (may be
 * NULL) is called on this thread.
 */
int image_layer_write(struct image_store *store, const struct image_upper *upper, int output_fd,
		      void (*progress)(uint64_t done_bytes, void *data), void *data,
		      struct image_layer_made *ret, struct error *err);
