/* The target of a request: what is accepted can be written and read again. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "codec/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(free) char *target = mem_strndup((const char *) data, size);
	AUTO(uri_done) struct uri uri = {};
	struct error err = {};

	if (uri_parse(target, &uri, &err) < 0)
		return 0;
	for (size_t i = 0; uri.segments[i]; i++) {
		AUTO(free) char *encoded = uri_encode(uri.segments[i]);
		AUTO(free) char *path = mem_printf("/%s", encoded);
		AUTO(uri_done) struct uri again = {};

		/* Encoding may take up to three times the room. */
		if (strlen(path) <= URI_SIZE_MAX &&
		    (uri_parse(path, &again, &err) < 0 ||
		     strcmp(again.segments[0], uri.segments[i]) != 0))
			abort();
	}
	return 0;
}
