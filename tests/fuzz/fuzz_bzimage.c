/* A kernel image that a stranger made: unpacked within bounds or refused with words. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "codec/bzimage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(free) void *kernel = NULL;
	struct error err = {};
	size_t kernel_size;

	if (bzimage_unwrap(data, size, &kernel, &kernel_size, &err) < 0) {
		if (!err.msg[0])
			abort();
		return 0;
	}
	if (!bzimage_is_elf(kernel, kernel_size))
		abort();
	return 0;
}
