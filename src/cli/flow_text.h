#pragma once
/*
 * cli/flow_text.h - a line of a flow log as people read it.  Pure functions.
 */
#include <jansson.h>
#include <stdbool.h>

#include "base/strbuf.h"

/* One line, with its end, of what the server said about a flow, or about flows that are missing. */
void flow_text(struct strbuf *out, const json_t *line);

/* Whether it is about this instance (NULL: any), or about what is missing. */
bool flow_concerns(const json_t *line, const char *instance);
