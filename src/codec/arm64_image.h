#pragma once
/*
 * codec/arm64_image.h - the Linux kernel file of arm64: an `Image`, plain, as `Image.gz`, or inside
 * of the EFI program that newer distributions ship (zboot).
 *
 * A boot loader must unpack it, for the kernel does not.  Used by image/ (the kernel store).  Pure
 * functions over bytes that a stranger may have made: nothing is read beyond `size`, nothing larger
 * than KERNEL_PAYLOAD_MAX is made.  Thread-safe.
 */
#include <stdbool.h>
#include <stddef.h>

#include "codec/kernel_payload.h"

struct error;

/* Does it look like one of the three?  What is inside is not known yet. */
bool arm64_image_is_likely(const void *data, size_t size);

/*
 * The plain Image, in new memory that the caller frees.  -EBADMSG: none, or damaged.  -EOPNOTSUPP:
 * compressed in a way that is not known here, or a kernel for big-endian programs.  -EFBIG: over
 * KERNEL_PAYLOAD_MAX.
 */
int arm64_image_unwrap(const void *data, size_t size, void **ret, size_t *ret_size,
		       struct error *err);
