#pragma once
/*
 * container/resources.h - writes linux.resources into control groups, version 1 or 2.
 *
 * Every value that is asked for is written or is an error that names it.  Used by launch (all of
 * it) before the first process is inside, and by update.
 */
#include "codec/oci_spec.h"
#include "kern/cgroup.h"

struct error;

int resources_apply(const struct oci_resources *resources, const struct oci_device *devices,
		    size_t device_count, const struct cgroup *cgroup, struct error *err);

/* Whether there is any limit, devices apart. */
bool resources_any(const struct oci_resources *resources);

/* All but the devices; also for a container that runs. */
int resources_apply_limits(const struct oci_resources *resources, const struct cgroup *cgroup,
			   struct error *err);

/* Shares of version 1 (2..262144) as a weight of version 2 (1..10000). */
uint64_t resources_weight_of_shares(uint64_t shares);
/* blkio's weight (10..1000) as io.weight (1..10000). */
uint64_t resources_io_weight(uint64_t weight);
