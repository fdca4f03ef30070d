#pragma once
/*
 * cli/info_run.h - how an instance is run, for `brume info`: what it was given, what was taken from
 * it, how its health is checked.  Pure.
 */
#include <jansson.h>

struct strbuf;

void info_put_run(struct strbuf *out, const json_t *instance);
