#pragma once
/*
 * container/delegate.h - who owns the container's control group (config-linux.md, "Cgroup
 * ownership").
 *
 * With version 2, a cgroup namespace of its own and a writable /sys/fs/cgroup, a container may make
 * groups below its own (systemd does): then the folder and the few files that the kernel names for
 * it belong to the container's user.  Used by launch.
 */
#include <stdbool.h>

#include "codec/oci_spec.h"
#include "kern/cgroup.h"

struct error;

/* Whether the configuration asks for it; pure. */
bool delegate_wanted(const struct oci_spec *spec);

/* Id of the host that a container's `id` is; -1 when it is not mapped.  Pure. */
int64_t delegate_host_id(const struct oci_id_maps *maps, uint32_t id);

/* Does it when it is wanted and the host has version 2 only. */
int delegate_cgroup(const struct oci_spec *spec, const struct cgroup_host *host,
		    const struct cgroup *cgroup, struct error *err);
