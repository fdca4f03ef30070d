#pragma once
/*
 * container/device_rules.h - linux.resources.devices as one policy, and its way into the kernel.
 *
 * The list of the spec is a sequence of changes; what counts is where it ends: "nothing, except" or
 * "everything, except".  Both versions of control groups are given that.
 */
#include "codec/oci_spec.h"
#include "kern/cgroup.h"
#include "kern/cgroup_bpf.h"

struct error;

struct device_policy {
	bool allow;
	struct cgroup_device *list; /* exceptions */
	size_t count;
};

/*
 * The policy at the end of the list.  Without a list: only `devices` and what every container has;
 * those are in it always, since the specification promises them.
 */
void device_policy_make(const struct oci_resources *resources, const struct oci_device *devices,
			size_t device_count, struct device_policy *ret);
void device_policy_done(struct device_policy *policy);

int device_rules_apply(const struct oci_resources *resources, const struct oci_device *devices,
		       size_t device_count, const struct cgroup *cgroup, struct error *err);
