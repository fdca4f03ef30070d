#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/logreader.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A cursor that is taken is given again as the same place. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(free) char *text = mem_strndup((const char *) data, size);
	struct logreader_range range = {}, again = {};
	struct logreader reader = {};
	char uid[33] = "0123abcd0123abcd0123abcd0123abcd";
	char cursor[LOGREADER_CURSOR_SIZE];

	if (logreader_parse_cursor(text, uid, &range, NULL) < 0)
		return 0;
	reader.position = range.position;
	reader.inside = range.inside;
	logreader_cursor(&reader, uid, cursor);
	if (logreader_parse_cursor(cursor, uid, &again, NULL) < 0 ||
	    again.position != range.position || again.inside != range.inside)
		abort();
	return 0;
}
