#pragma once
/*
 * cli/stats_machine.h - what the monitor of a virtual machine counts, for `brume stats --machine`.
 *
 * Used by stats.c.  One thread.
 */
#include <jansson.h>

#include "cli/table.h"

struct cli;
struct error;

/* One sample of the instance `name`: the counters that are not zero, one a line; or as JSON. */
int stats_machine(struct cli *cli, const char *name, struct error *err);

/* Its rows: each counter by its path; members of a list by id, name or number. */
extern const struct column stats_machine_columns[];
void stats_machine_put(struct table *table, const json_t *machine);
