#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "codec/tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Names are bounded and ended; records read twice say the same. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tar_records records = {}, again = {};
	struct tar_header header;
	struct error err;

	if (size >= TAR_BLOCK_SIZE && tar_header_decode(data, &header, &err) == 0 &&
	    (strlen(header.name) > 256 || strlen(header.link) > 100))
		abort();
	if (tar_records_decode((const char *) data, size, &records, &err) == 0) {
		if (tar_records_decode((const char *) data, size, &again, &err) < 0 ||
		    (records.path && strcmp(records.path, again.path) != 0) ||
		    records.mtime_ns >= 1000000000)
			abort();
	}
	tar_records_done(&records);
	tar_records_done(&again);
	return 0;
}
