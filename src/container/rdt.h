#pragma once
/*
 * container/rdt.h - linux.intelRdt: a class of service of the processor's caches (resctrl).
 *
 * A class without a name of its own is named by the container, and ends with it.  `root` is where
 * resctrl is mounted: tests have a folder.  Used by launch and lifecycle.
 */
#include <sys/types.h>

#include "codec/oci_spec.h"

struct error;

#define RDT_ROOT "/sys/fs/resctrl"

/* Refuses what this machine cannot do. */
int rdt_check(const char *root, const struct oci_rdt *rdt, struct error *err);

/* Makes the class unless it is there, and puts the process into it. */
int rdt_join(const char *root, const struct oci_rdt *rdt, const char *id, pid_t pid,
	     struct error *err);

/* Removes the class that has the container's name. */
void rdt_remove(const char *root, const struct oci_rdt *rdt, const char *id);
