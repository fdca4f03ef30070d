#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/logline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A line that parses is written again as it was. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char prefix[LOGLINE_PREFIX_SIZE];
	struct logline line;

	uint64_t position;

	if (logline_parse_head((const char *) data, size, &position) == 0) {
		char head[LOGLINE_HEAD_SIZE];

		logline_write_head(head, position);
		if (memcmp(head, data, sizeof(head)) != 0)
			abort();
	}
	if (logline_parse((const char *) data, size, &line) < 0)
		return 0;
	logline_write_prefix(prefix, line.time_ns, line.stream, line.partial);
	/* A day like 31 February or a 60th second is read leniently, and written as what it means.
	 */
	if (memcmp(prefix + 30, data + 30, 10) != 0)
		abort();
	return 0;
}
