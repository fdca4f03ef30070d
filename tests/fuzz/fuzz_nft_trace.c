/* What the kernel tells of traced packets: parts of them are strangers' bytes.  And what nft writes
 * of rules, whose names and comments are anybody's. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kern/nft_text.h"
#include "kern/nft_trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take_text(size_t chain, uint64_t handle, const char *expression, const char *comment,
		      void *data)
{
	size_t *total = data;

	if (chain != 7 || handle == 0)
		abort();
	*total += strlen(expression) + strlen(comment);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nft_trace_event event;
	size_t total = 0;
	char *text = malloc(size + 1);

	if (!text)
		abort();
	memcpy(text, data, size);
	/* The kernel's messages are aligned, as malloc()'s memory is. */
	if (nft_trace_decode(text, size, &event) == 0) {
		if (!event.table[0] || !memchr(event.table, 0, sizeof(event.table)) ||
		    !memchr(event.chain, 0, sizeof(event.chain)) ||
		    !memchr(event.to, 0, sizeof(event.to)))
			abort();
		if (event.packet.source.family != event.packet.destination.family)
			abort();
	}
	text[size] = '\0';
	nft_text_parse(text, 7, take_text, &total);
	if (total > size)
		abort();
	free(text);
	return 0;
}
