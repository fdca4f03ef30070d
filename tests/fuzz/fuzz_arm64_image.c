/* A kernel image of arm64 that a stranger made: unpacked within bounds or refused with words. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "codec/arm64_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(free) void *kernel = NULL;
	struct error err = {};
	size_t kernel_size;

	(void) arm64_image_is_likely(data, size);
	if (arm64_image_unwrap(data, size, &kernel, &kernel_size, &err) < 0) {
		if (!err.msg[0])
			abort();
		return 0;
	}
	if (!arm64_image_is_likely(kernel, kernel_size))
		abort();
	return 0;
}
