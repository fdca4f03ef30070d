#pragma once
/*
 * vmm/loader.h - puts a kernel into a guest's memory.
 *
 * An ELF with a PVH note (CONFIG_PVH) is entered in 32-bit protected mode; a bzImage is unwrapped
 * to that ELF when possible and else entered by Linux's 64-bit boot protocol, to unpack itself.
 * Kernels are strangers' bytes: everything is bounded and checked, nothing is written outside of
 * the guest's memory.  Used by boot.c.  Blocking reads; no state.
 */
#include <stddef.h>
#include <stdint.h>

#include "vmm/layout.h"

struct error;
struct guest_memory;

enum loader_protocol { LOADER_PVH, LOADER_LINUX64 };

struct loader_kernel {
	enum loader_protocol protocol;
	gpa_t entry;
	gpa_t end;               /* behind everything that the kernel uses before it knows memory */
	uint64_t initrd_max;     /* the highest address of an initramfs */
	size_t command_line_max; /* without the NUL */
	/* LOADER_LINUX64: the setup_header, for the zero page. */
	uint8_t header[512];
	size_t header_size;
};

/* Bytes to read from: a descriptor, or memory. */
struct loader_source {
	int fd; /* -1: memory */
	const void *data;
	uint64_t size;
};

/* -EIO: there are not as many bytes. */
int loader_source_read(const struct loader_source *source, uint64_t offset, void *data,
		       size_t size);

/* The same into the guest's memory; -EFAULT: there is none. */
int loader_source_load(const struct loader_source *source, uint64_t offset, uint64_t size,
		       const struct guest_memory *memory, gpa_t address);

/* -EBADMSG: not an ELF that can be loaded; -ENOEXEC: has no PVH entry. */
int loader_elf(const struct loader_source *source, const struct guest_memory *memory,
	       struct loader_kernel *ret, struct error *err);

/* `data` is a whole bzImage. */
int loader_bzimage(const void *data, size_t size, const struct guest_memory *memory,
		   struct loader_kernel *ret, struct error *err);

/* Either of both, by what is in the file. */
int loader_kernel_file(int fd, const struct guest_memory *memory, struct loader_kernel *ret,
		       struct error *err);
