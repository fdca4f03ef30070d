#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "codec/image_change.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Lines, applied one after the other; what is taken can be said in JSON, and is taken again. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(free) char *text = mem_strndup((const char *) data, size);
	AUTO(strv_free) char **changes = NULL;
	AUTO(json_decref) json_t *config = json_object();
	struct error err = {};
	char *rest = text, *line;

	while ((line = strsep(&rest, "\n")))
		strv_append(&changes, line);
	if (image_changes_apply(config, changes, &err) == 0) {
		AUTO(free) char *document = json_text(config);

		if (!document || image_changes_check(changes, &err) < 0)
			abort();
	} else if (!err.msg[0]) {
		abort();
	}
	return 0;
}
