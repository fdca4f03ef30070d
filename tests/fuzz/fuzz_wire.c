/* What an image worker says, as its parent reads it. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "image/layer_meta_internal.h"
#include "image/wire_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(free) char *text = mem_strndup((const char *) data, size);
	AUTO(free) char *path = NULL;
	struct wire wire = { .fd = -1 };
	struct error err = {};
	int r = 0;

	strbuf_append(&wire.in, data, size);
	for (;;) {
		AUTO(json_decref) json_t *object = NULL;
		struct layer_meta meta;

		r = wire_next(&wire, &object, &err);
		if (r < 0 || !object)
			break;
		layer_meta_read(object, &meta, &err);
	}
	wire_done(&wire);
	wire_path_decode(text, &path);
	return 0;
}
