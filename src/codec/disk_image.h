#pragma once
/*
 * codec/disk_image.h - is a file the image of a disk, of which kind, and how large is its disk?
 *
 * Used by image/ for what people import, and to check again what its worker says.  Pure functions
 * over bytes that a stranger may have made.  Thread-safe.
 */
#include <stddef.h>
#include <stdint.h>

struct error;

enum disk_format { DISK_NONE, DISK_RAW, DISK_QCOW2 };
extern const char *const disk_format_names[]; /* "none", "raw", "qcow2"; ends with NULL */

/* How much of a file's beginning is looked at. */
enum { DISK_IMAGE_HEAD_BYTES = 64 << 10, DISK_SECTOR_BYTES = 512 };

/*
 * By its first bytes: a qcow2 by its magic, a raw disk by a boot sector or a table of partitions;
 * DISK_NONE is anything else.  -EINVAL: the image of a disk in a format that is not taken, whose
 * name is in the message.
 */
int disk_image_guess(const void *head, size_t size, enum disk_format *ret, struct error *err);

/* `head`: the first DISK_IMAGE_HEAD_BYTES of a file of `file_bytes`, or all of it. */
int disk_image_check(enum disk_format format, const void *head, size_t size, uint64_t file_bytes,
		     uint64_t *ret_virtual_bytes, struct error *err);
