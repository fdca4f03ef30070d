#pragma once
/*
 * image/rootfs.h - the root file system of an instance: an overlay over an image's layers.
 *
 * The result is a detached mount: it is in nobody's mount table, and ends when its fd and what was
 * attached from it are gone.  The lower layers are seen through one idmapped clone of the layers'
 * folder; `upper` and `work` are plain folders that belong to the slot's user ids.
 * Used by the agent.  Thread-safe; needs CAP_SYS_ADMIN.
 */
#include <stdint.h>

struct error;
struct image_store;

/* Unpacked layers belong to this id + the id in the image, see docs/design/0001-contracts.md. */
enum { LAYER_UID_BASE = 0x70000000, LAYER_UID_COUNT = 65536, SLOT_UID_BASE = 0x40000000 };

/* The first host id of an instance's slot. */
static inline uint32_t rootfs_slot_uid(uint32_t slot)
{
	return (uint32_t) SLOT_UID_BASE + slot * (uint32_t) LAYER_UID_COUNT;
}

/*
 * `layers`: diff ids, lowest first (image_info_layers()).  `upper_dir` and `work_dir` are absolute
 * paths; they are made when missing, and a new upper gets owner and mode of the image's root
 * folder. *ret is the fd of the mount.  -ENOENT names the layer that is missing.
 */
int rootfs_open(struct image_store *store, char *const *layers, const char *upper_dir,
		const char *work_dir, uint32_t slot, int *ret, struct error *err);
