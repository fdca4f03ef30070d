/* The console's ring as a stranger left it: never more than it can hold. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/strbuf.h"
#include "machine/ring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(strbuf_done) struct strbuf out = {}, whole = {};
	AUTO(free) char *file = mem_zalloc(RING_FILE_MAX);

	ring_decode(data, size, &out);
	memcpy(file, data, size < RING_FILE_MAX ? size : RING_FILE_MAX);
	ring_decode(file, RING_FILE_MAX, &whole);
	if (out.size > RING_SIZE || whole.size > RING_SIZE)
		abort();
	return 0;
}
