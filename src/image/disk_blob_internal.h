#pragma once
/*
 * image/disk_blob_internal.h - the file of an image that is a disk, looked at by the agent's side.
 */
#include <stdint.h>

#include "codec/disk_image.h"

/* Decodes the beginning of the file; see disk_image_check(). */
int disk_blob_check(int fd, enum disk_format format, uint64_t *ret_virtual_bytes,
		    struct error *err);
