#pragma once
/*
 * codec/kernel_payload.h - the compressed kernel inside of a kernel file, unpacked.
 *
 * Formats: gzip, xz, lzma, lz4 (the legacy frames of the kernel's build), zstd; told apart by their
 * first bytes.  Used by codec/bzimage.h and codec/arm64_image.h.  Pure functions over bytes that a
 * stranger may have made: nothing larger than KERNEL_PAYLOAD_MAX is made.  Thread-safe.
 */
#include <stdbool.h>
#include <stddef.h>

struct error;

enum { KERNEL_PAYLOAD_MAX = 512 << 20 }; /* of what is inside */

bool kernel_payload_is_gzip(const void *payload, size_t size);

/*
 * Exactly `out_size` bytes, in new memory that the caller frees; what follows the compressed data
 * within `size` is passed over.  -EBADMSG: damaged, or another size.  -EOPNOTSUPP: compressed in a
 * way that is not known here.  -EFBIG: over KERNEL_PAYLOAD_MAX.
 */
int kernel_payload_unpack(const void *payload, size_t size, size_t out_size, void **ret,
			  struct error *err);
