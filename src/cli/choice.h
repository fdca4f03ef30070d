#pragma once
/*
 * cli/choice.h - a thing that is switched on by --NAME and off by --no-NAME.
 *
 * Used by the verbs that change what exists.  Returns 0 or -errno with a line in err.
 */
#include <stdbool.h>

#include "base/json.h"

struct cli;
struct error;

/*
 * What of the two was given becomes a boolean member of the patch, called as the option with '_'
 * for '-'; none of them leaves the patch as it is, both are an error.
 */
int choice_put(struct cli *cli, json_t *patch, const char *option, bool on, bool off,
	       struct error *err);
