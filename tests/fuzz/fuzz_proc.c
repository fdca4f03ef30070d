#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/strbuf.h"
#include "kern/proc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a process calls itself: any text of /proc is parsed, and what is shown is valid UTF-8. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(strbuf_done) struct strbuf out = {};
	AUTO(json_decref) json_t *text = NULL;
	struct proc proc = {};
	char *copy = malloc(size + 1);

	if (!copy)
		return 0;
	memcpy(copy, data, size);
	copy[size] = '\0';
	proc_parse_stat(copy, &proc);
	proc_parse_status(copy, &proc);
	free(copy);
	strbuf_put_printable(&out, (const char *) data, size);
	text = json_string(strbuf_str(&out));
	if (!text || memchr(strbuf_str(&out), 0x1b, out.size))
		abort();
	return 0;
}
