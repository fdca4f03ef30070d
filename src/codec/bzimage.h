#pragma once
/*
 * codec/bzimage.h - the Linux kernel file that distributions ship (x86's bzImage): what its header
 * says, and the ELF vmlinux that is compressed inside.
 *
 * The kernel would unpack itself, but that takes an emulated or a freshly started processor far
 * longer than us, and the ELF has the note for the PVH entry.  Used by image/ (the kernel store)
 * and vmm/ (boot).  Pure functions over bytes that a stranger may have made: nothing is read beyond
 * `size`, nothing larger than BZIMAGE_VMLINUX_MAX is made.  Formats: gzip, xz, lzma, lz4, zstd.
 * Thread-safe.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/kernel_payload.h"

struct error;

enum {
	BZIMAGE_MAX = 256 << 20, /* of the compressed file, for its readers */
	BZIMAGE_VMLINUX_MAX = KERNEL_PAYLOAD_MAX,
	BZIMAGE_HEADER_OFFSET = 0x1f1, /* of struct setup_header in the file */
};

/* What Documentation/arch/x86/boot.rst calls the real-mode header, as far as loaders need it. */
struct bzimage {
	uint16_t protocol;   /* 0x020f: 2.15 */
	uint32_t setup_size; /* bytes before the protected-mode kernel */
	uint32_t header_end; /* offset in the file behind the setup_header */
	uint16_t xloadflags; /* bit 0: has the 64-bit entry */
	uint8_t loadflags;
	bool relocatable;
	uint32_t command_line_max; /* without the NUL */
	uint32_t initrd_address_max;
	uint32_t kernel_alignment;
	uint64_t preferred_address;
	uint32_t init_size;      /* bytes that it needs from its load address on */
	uint64_t payload_offset; /* in the file */
	uint64_t payload_size;
	char version[128]; /* "6.1.0-18-cloud-amd64 (...) ..." or "" */
};

/* True for an ELF of 64 bits: needs no unwrapping. */
bool bzimage_is_elf(const void *data, size_t size);

/* -EBADMSG: not a bzImage of protocol 2.08 or later, or cut off. */
int bzimage_decode(const void *data, size_t size, struct bzimage *ret, struct error *err);

/*
 * The ELF inside, in new memory that the caller frees.  -EBADMSG: not a bzImage, or damaged.
 * -EOPNOTSUPP: compressed in a way that is not known here.  -EFBIG: over BZIMAGE_VMLINUX_MAX.
 */
int bzimage_unwrap(const void *data, size_t size, void **ret, size_t *ret_size, struct error *err);
