#pragma once
/*
 * cli/help.h - the texts of `brume --help` and `brume VERB --help`.  Prints to a stream.
 */
#include <stdio.h>

struct verb;

/* Everything brume can do, one line per verb. */
void help_print_overview(FILE *out);

/* One verb: `path` is how it is called ("brume image pull"). */
void help_print_verb(FILE *out, const char *path, const struct verb *verb);
