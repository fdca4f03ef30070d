#pragma once
/*
 * image/untar_internal.h - one layer's tar into one folder, in the form that overlayfs stacks.
 *
 * Whiteouts become character devices 0:0.  What needs more power than the worker has is reported:
 * device nodes, and folders that hide what is below them.  Kept are owners, modes, times, hard
 * links, sparse files, user.* and capability and ACL attributes; attributes that overlayfs or the
 * host's security modules would believe are dropped.  Used by layer.c and the import.  One thread.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "image/layer_meta_internal.h"
#include "image/tree_internal.h"

/* Returns a borrowed block of the plain tar, 0 at the end, -errno with words in `err`. */
typedef ssize_t (*untar_source_fn)(void *data, const void **ret, struct error *err);

struct untar_node {
	mode_t mode; /* with S_IFCHR or S_IFBLK */
	uint32_t uid, gid, major, minor;
};

struct untar {
	untar_source_fn source;
	void *source_data;
	/* Both return 0 or -errno. */
	int (*report_node)(void *data, const char *name, const struct untar_node *node);
	int (*report_opaque)(void *data, const char *name);
	void *data;
	/* With it only plain files, folders and links inside are taken: an archive of an image. */
	bool archive_only;
};

/* Reads to the end of the archive, not of the source.  Fills `ret` but for the sizes. */
int untar(const struct untar *untar, struct tree *tree, struct layer_meta *ret, struct error *err);
