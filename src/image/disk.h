#pragma once
/*
 * image/disk.h - disks of virtual machines: an image as one read-only file system, and the file
 * that an instance writes to.
 *
 *	STATE/images/disks/HEX	the merged layers of the image with this manifest digest
 *	STATE/images/blobs/	the disk of an image that is one
 *
 * The disk of an image is made once, when a machine first needs it: EROFS by mkfs.erofs, where that
 * is not installed ext4 by mke2fs.  The program reads a stranger's tree, so it runs in a worker
 * that is user 0 of a user namespace with a slot's ids, sees that tree, the programs of the host
 * and its result, and nothing else; owners come out as they are in the image.  A disk appears by
 * rename() when it is on the disk; image_store_gc() removes those whose image is gone.
 * Used by the agent.  Thread-safe; the calls block.  A crash leaves a folder in jobs/, which goes
 * when the store is opened.
 */
#include <stdint.h>

#include "codec/digest.h"

struct error;
struct image_info;
struct image_store;

/* Nobody's: what the layers are seen as while a disk is made of them. */
enum { IMAGE_DISK_SLOT = 12287 };

/*
 * Opens the disk of the image, made from `layers` (diff ids, lowest first) when it is not there
 * yet.  *ret_fd can only be read.  `cancel_fd` (or -1): readable means stop.
 */
int image_disk_open(struct image_store *store, const struct digest *manifest, char *const *layers,
		    int cancel_fd, int *ret_fd, struct error *err);

enum { IMAGE_DISK_SIZE_MIN = 16 << 20 };
#define IMAGE_DISK_SIZE_DEFAULT (UINT64_C(10) << 30)

/*
 * Makes `path`: a sparse file of that size with an empty ext4, for what an instance changes.  It
 * appears whole or not at all; -EEXIST when it is there already.
 */
int image_disk_make_empty(const char *path, uint64_t size_bytes, struct error *err);

/* Opens the disk of an image that is one (info->disk).  *ret_fd can only be read. */
int image_disk_open_blob(struct image_store *store, const struct image_info *info, int *ret_fd,
			 struct error *err);

/*
 * Makes `path`: a qcow2 of that size, which holds what an instance changes of such a disk.  It
 * names none: who opens it says what lies below.  Whole or not at all; -EEXIST as above.
 */
int image_disk_make_overlay(const char *path, uint64_t size_bytes, struct error *err);
