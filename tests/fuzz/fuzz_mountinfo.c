/* Lists of mounts: places are whatever somebody has mounted. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/mountinfo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mountinfo info = {};
	char *text = malloc(size + 1);

	memcpy(text, data, size);
	text[size] = '\0';
	if (mountinfo_parse(text, &info) == 0)
		for (size_t i = 0; i < info.count; i++)
			if (!info.list[i].place || !info.list[i].root || !info.list[i].type ||
			    strlen(info.list[i].place) > size)
				abort();
	mountinfo_done(&info);
	free(text);
	return 0;
}
