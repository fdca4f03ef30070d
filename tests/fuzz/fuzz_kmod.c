/* A kernel module's own words: read within its bytes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/strv.h"
#include "codec/kmod.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(strv_free) char **depends = NULL;
	struct error err = {};

	if (kmod_depends(data, size, &depends, &err) < 0 && !err.msg[0])
		abort();
	return 0;
}
