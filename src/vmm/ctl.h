#pragma once
/*
 * vmm/ctl.h - `brume-vmm ctl SOCKET METHOD [ARGUMENT]`: one call to a running machine.
 *
 * What a disk or a card needs is opened here and handed over; the machine itself opens nothing.
 * Used by brume-vmm.  One call in a process of its own; it blocks.
 */
#include <stdio.h>

struct error;

/*
 * 0: the machine has answered, its result stands in `out` unless there is nothing to say; also for
 * --help.  -EINVAL: usage; others: the call failed or was refused.
 */
int ctl_run(int argc, char **argv, FILE *out, struct error *err);
