#pragma once
/*
 * cli/logline.h - lines of a log as JSON objects, one a line.
 *
 * Used by logs.  What comes is pieces of text in which each line begins with its time.
 */
#include <stdbool.h>
#include <stdio.h>

#include "base/strbuf.h"

struct logline_printer {
	struct strbuf line[2]; /* of output and error output: begun and not ended */
};

/* {"line", "stream", "time"} for each line that has ended.  0 or -errno. */
int logline_print(struct logline_printer *printer, FILE *out, bool is_err, const char *data,
		  size_t size);

void logline_printer_done(struct logline_printer *printer);
