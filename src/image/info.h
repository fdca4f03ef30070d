#pragma once
/*
 * image/info.h - what is known about an image that is in the store.
 *
 * A plain struct that pull, import and lookup hand out, and its JSON, which has the members of an
 * image resource's status (digest, size_bytes, layers, architecture, os, created, config, disk).
 * Used by the agent and inside image/.  A struct image_info belongs to whoever got it.
 */
#include <jansson.h>

#include "codec/digest.h"
#include "codec/disk_image.h"
#include "codec/oci_image.h"

struct error;

struct image_info_layer {
	struct digest digest;  /* of the compressed blob */
	struct digest diff_id; /* of the tar: the name of the unpacked layer */
	uint64_t size_bytes;   /* of the compressed blob */
	char media_type[OCI_MEDIA_TYPE_SIZE];
};

struct image_info {
	char *reference; /* as given to pull or import */
	char *platform;
	struct digest top; /* what the reference named: the index or the manifest */
	struct digest manifest;
	struct digest config_digest;
	char manifest_type[OCI_MEDIA_TYPE_SIZE];
	uint64_t manifest_size_bytes, config_size_bytes;
	uint64_t size_bytes;             /* of all compressed layers and the two documents */
	struct image_info_layer *layers; /* lowest first */
	size_t layer_count;
	char *architecture;
	char *os;
	char *created; /* RFC 3339 or "" */
	struct oci_image_config config;
	/*
	 * Not DISK_NONE: the only layer is no tree but the image of a disk, kept as the blob that
	 * it came as; its digest and its diff id are the same.
	 */
	enum disk_format disk;
	uint64_t virtual_bytes; /* of that disk */
};

/* The status members (see above); new reference. */
json_t *image_info_status(const struct image_info *info);

/* Everything, and back; what is read is checked as if a stranger had written it. */
json_t *image_info_json(const struct image_info *info);
int image_info_read(const json_t *object, struct image_info *ret, struct error *err);

/* The diff ids, lowest first, as rootfs_open() and image_store_gc() want them.  Caller frees. */
char **image_info_layers(const struct image_info *info);

void image_info_done(struct image_info *info);
static inline void image_info_done_autop(struct image_info *info)
{
	image_info_done(info);
}
