#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"
#include "codec/bzimage.h"
#include "vmm/loader.h"
#include "vmm/memory.h"

enum {
	ENTRY_64 = 0x200,
	XLF_KERNEL_64 = 1,
};

/* The kernel unpacks itself. */
static int load_packed(const void *data, size_t size, const struct guest_memory *memory,
		       struct loader_kernel *ret, struct error *err)
{
	struct loader_kernel kernel = { .protocol = LOADER_LINUX64 };
	struct bzimage image;
	uint64_t code_size, init_size;
	gpa_t at;
	int r = bzimage_decode(data, size, &image, err);

	if (r < 0)
		return r;
	if (!(image.xloadflags & XLF_KERNEL_64))
		return error_say(err, -EBADMSG, "the kernel has no 64-bit entry");
	if (image.setup_size >= size)
		return error_say(err, -EBADMSG, "the kernel is cut off");
	code_size = size - image.setup_size;
	init_size = image.init_size > code_size ? image.init_size : code_size;
	at = image.preferred_address;
	if (at < LAYOUT_KERNEL || at + init_size > LAYOUT_LINUX64_END || at + init_size < at)
		return error_say(err, -EBADMSG, "the kernel wants to be loaded at %#llx",
				 (unsigned long long) at);
	/* It clears and uses everything up to init_size. */
	if (!guest_memory_range(memory, at, init_size))
		return error_say(err, -ENOSPC,
				 "the kernel needs memory up to %llu MiB, the guest has %llu MiB",
				 (unsigned long long) (at + init_size) >> 20,
				 (unsigned long long) guest_memory_size(memory) >> 20);
	r = guest_memory_write(memory, at, (const char *) data + image.setup_size, code_size);
	if (r < 0)
		return error_set(err, r, "loading the kernel");
	kernel.entry = at + ENTRY_64;
	kernel.end = at + init_size;
	kernel.initrd_max = image.initrd_address_max;
	kernel.command_line_max = image.command_line_max < LAYOUT_COMMAND_LINE_MAX
					  ? image.command_line_max
					  : LAYOUT_COMMAND_LINE_MAX - 1;
	kernel.header_size = image.header_end - BZIMAGE_HEADER_OFFSET;
	if (image.header_end < BZIMAGE_HEADER_OFFSET || image.header_end > size ||
	    kernel.header_size > sizeof(kernel.header))
		return error_say(err, -EBADMSG, "the kernel's header is damaged");
	memcpy(kernel.header, (const char *) data + BZIMAGE_HEADER_OFFSET, kernel.header_size);
	*ret = kernel;
	return 0;
}

int loader_bzimage(const void *data, size_t size, const struct guest_memory *memory,
		   struct loader_kernel *ret, struct error *err)
{
	struct loader_source source = { .fd = -1 };
	AUTO(free) void *elf = NULL;
	size_t elf_size;
	int r = bzimage_unwrap(data, size, &elf, &elf_size, err);

	if (r == 0) {
		source.data = elf;
		source.size = elf_size;
		r = loader_elf(&source, memory, ret, err);
	}
	/* A packer that is not known here, or no PVH entry: it can do that itself. */
	if (r == -EOPNOTSUPP || r == -ENOEXEC)
		r = load_packed(data, size, memory, ret, err);
	return r;
}

int loader_kernel_file(int fd, const struct guest_memory *memory, struct loader_kernel *ret,
		       struct error *err)
{
	struct loader_source source = { .fd = fd };
	AUTO(free) char *data = NULL;
	struct stat st;
	char magic[4] = "";
	int r;

	if (fstat(fd, &st) < 0)
		return error_set(err, -errno, "the kernel");
	if (!S_ISREG(st.st_mode))
		return error_say(err, -EINVAL, "the kernel must be a regular file");
	source.size = (uint64_t) st.st_size;
	if (loader_source_read(&source, 0, magic, sizeof(magic)) < 0)
		return error_say(err, -EBADMSG, "not a kernel: too short");
	if (memcmp(magic, "\177ELF", sizeof(magic)) == 0)
		return loader_elf(&source, memory, ret, err);
	if (source.size > BZIMAGE_MAX)
		return error_say(err, -EFBIG, "the kernel is larger than %d MiB",
				 BZIMAGE_MAX >> 20);
	data = mem_try_alloc(source.size);
	if (!data)
		return error_set(err, -ENOMEM, "the kernel");
	r = loader_source_read(&source, 0, data, source.size);
	if (r < 0)
		return error_set(err, r, "reading the kernel");
	return loader_bzimage(data, source.size, memory, ret, err);
}
