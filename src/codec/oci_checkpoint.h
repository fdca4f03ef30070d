#pragma once
/*
 * codec/oci_checkpoint.h - what brume-oci writes beside CRIU's images: brume-oci.json.
 *
 * CRIU keeps what is inside of a container.  What comes from outside it knows by a name only, and
 * this document says what the names stand for, so that restore can provide it again.  Used by
 * container/checkpoint.c and restore.c.  Pure; images travel, so everything is checked.
 */
#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct error;

enum { OCI_CHECKPOINT_MAX = 1 << 20, OCI_EXTERNALS_MAX = 4096 };

enum oci_external_kind {
	OCI_EXTERNAL_ROOT,   /* the root file system; only what is below it */
	OCI_EXTERNAL_MOUNT,  /* a bind mount of config.json: `of` is its destination */
	OCI_EXTERNAL_CGROUP, /* the container's control group: `of` is the hierarchy's folder */
	OCI_EXTERNAL_DEVICE, /* a device of the host: `of` is "c:1:3" */
	OCI_EXTERNAL_COUNT
};

struct oci_external {
	enum oci_external_kind kind;
	char *of;
	char *below; /* a path inside of it, without ".."; "" for itself */
};

struct oci_checkpoint {
	struct oci_external *externals; /* the n-th is named "brume-n" */
	size_t external_count;
	char **stdio; /* at most three: CRIU's names of what they were, "" for those it keeps itself
		       */
};

void oci_checkpoint_add(struct oci_checkpoint *checkpoint, enum oci_external_kind kind,
			const char *of, const char *below);
void oci_checkpoint_done(struct oci_checkpoint *checkpoint);
static inline void oci_checkpoint_done_autop(struct oci_checkpoint *checkpoint)
{
	oci_checkpoint_done(checkpoint);
}

char *oci_checkpoint_encode(const struct oci_checkpoint *checkpoint);
int oci_checkpoint_decode(const char *text, size_t size, struct oci_checkpoint *ret,
			  struct error *err);

/* "c:1:3" into its parts; -EINVAL. */
int oci_external_device(const char *of, char *ret_type, dev_t *ret);
