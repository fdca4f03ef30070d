#include "container/resources.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "container/device_rules.h"
#include "container/resources_internal.h"

uint64_t resources_weight_of_shares(uint64_t shares)
{
	if (shares < 2)
		shares = 2;
	if (shares > 262144)
		shares = 262144;
	return 1 + ((shares - 2) * 9999) / 262142;
}

uint64_t resources_io_weight(uint64_t weight)
{
	if (weight < 10)
		weight = 10;
	return 1 + (weight - 10) * 9999 / 990;
}

int resources_put(const struct cgroup *cgroup, const char *controller, const char *file,
		  const char *property, struct error *err, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	int r;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	r = cgroup_write(cgroup, controller, file, text);
	if (r == -EOPNOTSUPP && !cgroup_has(cgroup, controller))
		return error_say(err, r,
				 "linux.resources.%s: this machine has no control group controller "
				 "\"%s\"",
				 property, controller);
	if (r == -ENOENT)
		return error_say(err, -EOPNOTSUPP,
				 "linux.resources.%s: this kernel's control groups have no \"%s\"",
				 property, file);
	return r < 0 ? error_set(err, r, "linux.resources.%s: writing \"%s\" to %s", property, text,
				 file)
		     : 0;
}

int resources_refuse(const char *property, struct error *err)
{
	return error_say(
		err, -EOPNOTSUPP,
		"linux.resources.%s: cannot be done with this machine's version of control "
		"groups",
		property);
}

static int apply_unified(const struct oci_resources *resources, const struct cgroup *cgroup,
			 struct error *err)
{
	for (size_t i = 0; i < resources->unified_count; i++) {
		const struct oci_pair *pair = &resources->unified[i];
		char property[96];
		int r;

		if (!strchr(pair->name, '.') || pair->name[0] == '.' || strchr(pair->name, '/'))
			return error_say(err, -EINVAL,
					 "linux.resources.unified: \"%.64s\" is not a file like "
					 "\"memory.high\"",
					 pair->name);
		snprintf(property, sizeof(property), "unified.%.64s", pair->name);
		if (cgroup_v2_fd(cgroup) < 0)
			return resources_refuse(property, err);
		r = file_write_kernel(cgroup_v2_fd(cgroup), pair->name, pair->value);
		if (r == -ENOENT)
			return resources_refuse(property, err);
		if (r < 0)
			return error_set(err, r, "linux.resources.%s: writing \"%.128s\"", property,
					 pair->value);
	}
	return 0;
}

/* Whether anything of this controller is asked for. */
static bool wanted(const struct oci_resources *resources, const char *controller)
{
	if (strcmp(controller, "memory") == 0)
		return resources->memory.limit.set || resources->memory.reservation.set ||
		       resources->memory.swap.set || resources->memory.kernel.set ||
		       resources->memory.kernel_tcp.set || resources->memory.swappiness.set ||
		       resources->memory.disable_oom_killer || resources->memory.use_hierarchy.set;
	if (strcmp(controller, "cpu") == 0)
		return resources->cpu.shares.set || resources->cpu.quota.set ||
		       resources->cpu.burst.set || resources->cpu.period.set ||
		       resources->cpu.rt_runtime.set || resources->cpu.rt_period.set ||
		       resources->cpu.idle.set;
	if (strcmp(controller, "cpuset") == 0)
		return (resources->cpu.cpus && resources->cpu.cpus[0]) ||
		       (resources->cpu.mems && resources->cpu.mems[0]);
	if (strcmp(controller, "pids") == 0)
		return resources->pids_limit.set;
	if (strcmp(controller, "hugetlb") == 0)
		return resources->hugepage_count > 0;
	if (strcmp(controller, "rdma") == 0)
		return resources->rdma_count > 0;
	if (strcmp(controller, "net_cls") == 0)
		return resources->class_id.set;
	if (strcmp(controller, "net_prio") == 0)
		return resources->priority_count > 0;
	if (resources->block_io.weight.set || resources->block_io.leaf_weight.set ||
	    resources->block_io.device_count)
		return true;
	for (size_t i = 0; i < OCI_THROTTLE_COUNT; i++)
		if (resources->block_io.throttles[i].count)
			return true;
	return false;
}

int resources_apply_limits(const struct oci_resources *resources, const struct cgroup *cgroup,
			   struct error *err)
{
	static const char *const controllers[] = { "cpuset",  "cpu",  "memory",  "pids",
						   "hugetlb", "rdma", "net_cls", "net_prio" };
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_COUNT(controllers); i++) {
		const char *controller = controllers[i];

		if (!wanted(resources, controller))
			continue;
		if (cgroup_is_v2(cgroup, controller))
			r = resources_apply_v2(resources, cgroup, controller, err);
		else
			r = resources_apply_v1(resources, cgroup, controller, err);
	}
	/* The one that has another name in each version. */
	if (r == 0 && wanted(resources, "io"))
		r = cgroup_is_v2(cgroup, "io")
			    ? resources_apply_v2(resources, cgroup, "io", err)
			    : resources_apply_v1(resources, cgroup, "blkio", err);
	return r < 0 ? r : apply_unified(resources, cgroup, err);
}

int resources_apply(const struct oci_resources *resources, const struct oci_device *devices,
		    size_t device_count, const struct cgroup *cgroup, struct error *err)
{
	int r = device_rules_apply(resources, devices, device_count, cgroup, err);

	return r < 0 ? r : resources_apply_limits(resources, cgroup, err);
}
