#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "container/resources_internal.h"

/* Limits of version 2 say "max" where version 1 said -1. */
static int put_limit(const struct cgroup *cgroup, const char *controller, const char *file,
		     const char *property, int64_t value, struct error *err)
{
	if (value < 0 || value == INT64_MAX)
		return resources_put(cgroup, controller, file, property, err, "max");
	return resources_put(cgroup, controller, file, property, err, "%lld", (long long) value);
}

/* The specification's swap counts memory too, version 2's does not. */
static int apply_swap(const struct oci_resources *resources, const struct cgroup *cgroup,
		      struct error *err)
{
	int64_t swap = resources->memory.swap.value, limit = resources->memory.limit.value;

	if (!resources_asked(&resources->memory.swap))
		return 0;
	if (swap >= 0 && (!resources_asked(&resources->memory.limit) || limit < 0))
		return error_say(err, -EINVAL,
				 "linux.resources.memory.swap: counts memory too, so it needs "
				 "memory.limit");
	return put_limit(cgroup, "memory", "memory.swap.max", "memory.swap",
			 swap >= 0 ? swap - limit : -1, err);
}

/* Version 1's kernel refuses a limit below what is in use; version 2's begins to kill. */
static int check_in_use(const struct oci_resources *resources, const struct cgroup *cgroup,
			struct error *err)
{
	AUTO(free) char *text = NULL;
	int64_t limit = resources->memory.limit.value;

	if (!resources->memory.check_before_update || !resources_asked(&resources->memory.limit) ||
	    limit < 0 || cgroup_read(cgroup, "memory", "memory.current", &text) < 0 ||
	    strtoll(text, NULL, 10) <= limit)
		return 0;
	return error_say(err, -EBUSY,
			 "linux.resources.memory.limit: %lld is below what is in use, %.20s",
			 (long long) limit, text);
}

int resources_v2_memory(const struct oci_resources *resources, const struct cgroup *cgroup,
			struct error *err)
{
	int r;

	if (resources->memory.kernel.set && resources->memory.kernel.value > 0)
		return resources_refuse("memory.kernel", err);
	if (resources->memory.kernel_tcp.set && resources->memory.kernel_tcp.value > 0)
		return resources_refuse("memory.kernelTCP", err);
	if (resources->memory.swappiness.set)
		return resources_refuse("memory.swappiness", err);
	if (resources->memory.disable_oom_killer)
		return resources_refuse("memory.disableOOMKiller", err);
	if (resources->memory.use_hierarchy.set && !resources->memory.use_hierarchy.value)
		return resources_refuse("memory.useHierarchy", err);
	r = resources_check_swap(resources, err);
	if (r == 0)
		r = check_in_use(resources, cgroup, err);
	if (r == 0)
		r = apply_swap(resources, cgroup, err);
	if (r == 0 && resources_asked(&resources->memory.limit))
		r = put_limit(cgroup, "memory", "memory.max", "memory.limit",
			      resources->memory.limit.value, err);
	if (r == 0 && resources_asked(&resources->memory.reservation))
		r = put_limit(cgroup, "memory", "memory.low", "memory.reservation",
			      resources->memory.reservation.value, err);
	return r;
}

static int apply_quota(const struct oci_resources *resources, const struct cgroup *cgroup,
		       struct error *err)
{
	const struct oci_opt *quota = &resources->cpu.quota, *period = &resources->cpu.period;
	char text[32] = "max";

	if ((!quota->set || quota->value == 0) && (!period->set || period->value == 0))
		return 0;
	if (quota->set && quota->value > 0)
		snprintf(text, sizeof(text), "%lld", (long long) quota->value);
	if (period->set && period->value > 0)
		return resources_put(cgroup, "cpu", "cpu.max", "cpu.quota", err, "%s %lld", text,
				     (long long) period->value);
	return resources_put(cgroup, "cpu", "cpu.max", "cpu.quota", err, "%s", text);
}

int resources_v2_cpu(const struct oci_resources *resources, const struct cgroup *cgroup,
		     struct error *err)
{
	int r = 0;

	if (resources->cpu.rt_runtime.set && resources->cpu.rt_runtime.value)
		return resources_refuse("cpu.realtimeRuntime", err);
	if (resources->cpu.rt_period.set && resources->cpu.rt_period.value)
		return resources_refuse("cpu.realtimePeriod", err);
	if (resources->cpu.idle.set)
		r = resources_put(cgroup, "cpu", "cpu.idle", "cpu.idle", err, "%lld",
				  (long long) resources->cpu.idle.value);
	/* An idle group has no weight to set. */
	if (r == 0 && resources->cpu.shares.set && resources->cpu.shares.value &&
	    !(resources->cpu.idle.set && resources->cpu.idle.value))
		r = resources_put(cgroup, "cpu", "cpu.weight", "cpu.shares", err, "%llu",
				  (unsigned long long) resources_weight_of_shares(
					  (uint64_t) resources->cpu.shares.value));
	if (r == 0)
		r = apply_quota(resources, cgroup, err);
	if (r == 0 && resources->cpu.burst.set)
		r = resources_put(cgroup, "cpu", "cpu.max.burst", "cpu.burst", err, "%lld",
				  (long long) resources->cpu.burst.value);
	return r;
}

/* BFQ has its own file with version 1's range; io.weight is another scale. */
static int put_io_weight(const struct cgroup *cgroup, const char *prefix, int64_t weight,
			 const char *property, struct error *err)
{
	char text[64];

	snprintf(text, sizeof(text), "%s%lld", prefix, (long long) weight);
	if (cgroup_write(cgroup, "io", "io.bfq.weight", text) == 0)
		return 0;
	return resources_put(cgroup, "io", "io.weight", property, err, "%s%llu",
			     prefix[0] ? prefix : "default ",
			     (unsigned long long) resources_io_weight((uint64_t) weight));
}

int resources_v2_io(const struct oci_resources *resources, const struct cgroup *cgroup,
		    struct error *err)
{
	static const char *const keys[OCI_THROTTLE_COUNT] = { "rbps", "wbps", "riops", "wiops" };
	int r = 0;

	if (resources->block_io.leaf_weight.set && resources->block_io.leaf_weight.value)
		return resources_refuse("blockIO.leafWeight", err);
	if (resources->block_io.weight.set && resources->block_io.weight.value)
		r = put_io_weight(cgroup, "", resources->block_io.weight.value, "blockIO.weight",
				  err);
	for (size_t i = 0; r == 0 && i < resources->block_io.device_count; i++) {
		const struct oci_weight_device *device = &resources->block_io.devices[i];
		char prefix[32];

		if (device->leaf_weight.set && device->leaf_weight.value)
			return resources_refuse("blockIO.weightDevice.leafWeight", err);
		snprintf(prefix, sizeof(prefix), "%u:%u ", device->major, device->minor);
		if (device->weight.set && device->weight.value)
			r = put_io_weight(cgroup, prefix, device->weight.value,
					  "blockIO.weightDevice", err);
	}
	for (size_t kind = 0; kind < OCI_THROTTLE_COUNT; kind++) {
		const struct oci_throttles *throttles = &resources->block_io.throttles[kind];

		for (size_t i = 0; r == 0 && i < throttles->count; i++) {
			const struct oci_throttle *one = &throttles->list[i];
			char rate[24] = "max";

			if (one->rate)
				snprintf(rate, sizeof(rate), "%llu",
					 (unsigned long long) one->rate);
			r = resources_put(cgroup, "io", "io.max", "blockIO.throttle", err,
					  "%u:%u %s=%s", one->major, one->minor, keys[kind], rate);
		}
	}
	return r;
}

int resources_v2_hugetlb(const struct oci_resources *resources, const struct cgroup *cgroup,
			 struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < resources->hugepage_count; i++) {
		const struct oci_hugepage *page = &resources->hugepages[i];
		char file[64], text[32];

		snprintf(file, sizeof(file), "hugetlb.%s.max", page->page_size);
		snprintf(text, sizeof(text), "%llu", (unsigned long long) page->limit);
		r = resources_put(cgroup, "hugetlb", file, "hugepageLimits", err, "%s", text);
		snprintf(file, sizeof(file), "hugetlb.%s.rsvd.max", page->page_size);
		/* Kernels before 5.7 do not count what is reserved and not touched yet. */
		if (r == 0)
			(void) cgroup_write(cgroup, "hugetlb", file, text);
	}
	return r;
}
