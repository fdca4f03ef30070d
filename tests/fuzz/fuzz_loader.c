/* A kernel that a stranger made: loaded into the guest's memory and nowhere else, or refused. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/error.h"
#include "vmm/loader.h"
#include "vmm/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct guest_memory *memory;
	struct guest_memory_options options = { .size_bytes = 32 << 20, .fd = -1 };
	struct loader_source source = { .fd = -1, .data = data, .size = size };
	struct loader_kernel kernel;
	struct error err = {};

	if (!memory && guest_memory_new(&options, &memory, NULL) < 0)
		abort();
	if (loader_elf(&source, memory, &kernel, &err) == 0) {
		if (kernel.entry < LAYOUT_KERNEL || kernel.end > options.size_bytes)
			abort();
	} else if (!err.msg[0]) {
		abort();
	}
	err.msg[0] = '\0';
	if (loader_bzimage(data, size, memory, &kernel, &err) == 0) {
		if (kernel.end > options.size_bytes || kernel.header_size > sizeof(kernel.header))
			abort();
	} else if (!err.msg[0]) {
		abort();
	}
	return 0;
}
