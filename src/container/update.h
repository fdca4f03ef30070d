#pragma once
/*
 * container/update.h - changes the limits of a container that exists: all of a change, or nothing.
 *
 * What the control groups said before is read first and written back when any part is refused.  The
 * record keeps the resources as they are now (resources.json), because limits depend on each other:
 * the specification's swap counts memory.  The record must be locked.  A crash in between leaves a
 * part of the change in the kernel, and the next update writes over it.
 */
#include "base/json.h"
#include "container/record.h"

struct error;

/* `change` is what oci_update_decode() gave. */
int update_limits(struct record *record, const json_t *change, struct error *err);
