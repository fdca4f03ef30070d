#pragma once
/*
 * image/layer_internal.h - one layer of an image from its compressed blob to a folder, verified.
 *
 * Two threads per layer: one reads the blob behind whoever writes it, hashes and decompresses it;
 * the other hashes the plain tar and unpacks it.  A layer that is damaged is read to its end all
 * the same, because "this is not what the manifest names" says more than "the tar is damaged". Used
 * by the worker only.
 */
#include <pthread.h>
#include <stdbool.h>

#include "base/error.h"
#include "codec/digest.h"
#include "image/layer_meta_internal.h"
#include "image/spool_internal.h"
#include "image/untar_internal.h"

struct layer {
	/* Set by the owner before layer_start(). */
	struct spool spool;
	struct digest digest;  /* DIGEST_NONE: whatever it is */
	struct digest diff_id; /* likewise */
	int tree_fd;           /* the empty folder, or -1: only verify the blob */
	struct tree_limits *limits;
	struct untar untar; /* `source` is the layer's own */
	void (*finished)(
		struct layer *layer); /* on the layer's thread, its last act; may be NULL */
	void *owner;

	/* Valid after layer_join(). */
	int result;
	struct error err;
	struct layer_meta meta;
	struct digest real_digest, real_diff_id;
	int compression; /* enum inflate_kind */

	pthread_t thread;
};

int layer_start(struct layer *layer, struct error *err);
void layer_join(struct layer *layer);
