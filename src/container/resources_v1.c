#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "container/resources_internal.h"

static int put_number(const struct cgroup *cgroup, const char *controller, const char *file,
		      const char *property, const struct oci_opt *value, struct error *err)
{
	if (!value->set)
		return 0;
	return resources_put(cgroup, controller, file, property, err, "%lld",
			     (long long) value->value);
}

/*
 * memory <= memory+swap must hold after every write, and a group may have limits already: when the
 * kernel refuses one order, the other one is right.
 */
static int put_limits(const struct oci_resources *resources, const struct cgroup *cgroup,
		      struct error *err)
{
	struct oci_opt limit = resources->memory.limit, swap = resources->memory.swap;
	char text[24];
	int r;

	limit.set = resources_asked(&limit);
	swap.set = resources_asked(&swap);
	if (limit.set && limit.value < 0 && !swap.set)
		(void) cgroup_write(cgroup, "memory", "memory.memsw.limit_in_bytes", "-1");
	snprintf(text, sizeof(text), "%lld", (long long) limit.value);
	if (limit.set && swap.set &&
	    cgroup_write(cgroup, "memory", "memory.limit_in_bytes", text) == -EINVAL) {
		r = put_number(cgroup, "memory", "memory.memsw.limit_in_bytes", "memory.swap",
			       &swap, err);
		return r < 0 ? r
			     : put_number(cgroup, "memory", "memory.limit_in_bytes", "memory.limit",
					  &limit, err);
	}
	r = put_number(cgroup, "memory", "memory.limit_in_bytes", "memory.limit", &limit, err);
	return r < 0 ? r
		     : put_number(cgroup, "memory", "memory.memsw.limit_in_bytes", "memory.swap",
				  &swap, err);
}

/* Kernels since 5.16 take a limit for their own memory, and it has no effect. */
static int check_kernel(const struct oci_resources *resources, const struct cgroup *cgroup,
			struct error *err)
{
	const struct oci_opt *wanted = &resources->memory.kernel;
	AUTO(free) char *text = NULL;

	if (!resources_asked(wanted) || wanted->value < 0 ||
	    cgroup_read(cgroup, "memory", "memory.kmem.limit_in_bytes", &text) < 0 ||
	    strtoll(text, NULL, 10) <= wanted->value)
		return 0;
	return error_say(
		err, -EOPNOTSUPP,
		"linux.resources.memory.kernel: this kernel's control groups have no limit "
		"for it any more; memory.limit counts it");
}

int resources_v1_memory(const struct oci_resources *resources, const struct cgroup *cgroup,
			struct error *err)
{
	const struct {
		const char *file, *property;
		const struct oci_opt *value;
		bool zero_counts;
	} values[] = {
		{ "memory.soft_limit_in_bytes", "memory.reservation",
		  &resources->memory.reservation, false },
		{ "memory.kmem.limit_in_bytes", "memory.kernel", &resources->memory.kernel, false },
		{ "memory.kmem.tcp.limit_in_bytes", "memory.kernelTCP",
		  &resources->memory.kernel_tcp, false },
		{ "memory.swappiness", "memory.swappiness", &resources->memory.swappiness, true },
		{ "memory.use_hierarchy", "memory.useHierarchy", &resources->memory.use_hierarchy,
		  true },
	};
	int r = resources_check_swap(resources, err);

	if (r == 0)
		r = put_limits(resources, cgroup, err);
	for (size_t i = 0; r == 0 && i < ARRAY_COUNT(values); i++)
		if (values[i].zero_counts || resources_asked(values[i].value))
			r = put_number(cgroup, "memory", values[i].file, values[i].property,
				       values[i].value, err);
	if (r == 0)
		r = check_kernel(resources, cgroup, err);
	if (r == 0 && resources->memory.disable_oom_killer)
		r = resources_put(cgroup, "memory", "memory.oom_control", "memory.disableOOMKiller",
				  err, "1");
	return r;
}

int resources_v1_cpu(const struct oci_resources *resources, const struct cgroup *cgroup,
		     struct error *err)
{
	/* The period first: a quota is checked against it. */
	const struct {
		const char *file, *property;
		const struct oci_opt *value;
	} values[] = {
		{ "cpu.idle", "cpu.idle", &resources->cpu.idle },
		{ "cpu.shares", "cpu.shares", &resources->cpu.shares },
		{ "cpu.cfs_period_us", "cpu.period", &resources->cpu.period },
		{ "cpu.cfs_quota_us", "cpu.quota", &resources->cpu.quota },
		{ "cpu.cfs_burst_us", "cpu.burst", &resources->cpu.burst },
		{ "cpu.rt_period_us", "cpu.realtimePeriod", &resources->cpu.rt_period },
		{ "cpu.rt_runtime_us", "cpu.realtimeRuntime", &resources->cpu.rt_runtime },
	};

	for (size_t i = 0; i < ARRAY_COUNT(values); i++) {
		struct oci_opt value = *values[i].value;
		bool zero_is_default =
			value.value == 0 && (values[i].value == &resources->cpu.shares ||
					     values[i].value == &resources->cpu.period ||
					     values[i].value == &resources->cpu.quota ||
					     values[i].value == &resources->cpu.rt_period);
		int r;

		if (zero_is_default)
			continue;
		r = put_number(cgroup, "cpu", values[i].file, values[i].property, &value, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Kernels with BFQ only have the weights under its name. */
static int put_weight(const struct cgroup *cgroup, const char *file, const char *property,
		      const char *text, struct error *err)
{
	char bfq[64];
	int r;

	snprintf(bfq, sizeof(bfq), "blkio.bfq.%s", file + strlen("blkio."));
	r = cgroup_write(cgroup, "blkio", bfq, text);
	if (r == 0)
		return 0;
	/* Its file is there, but the device may have another scheduler. */
	if (r != -ENOENT)
		file = bfq;
	return resources_put(cgroup, "blkio", file, property, err, "%s", text);
}

static int apply_blkio_weights(const struct oci_resources *resources, const struct cgroup *cgroup,
			       struct error *err)
{
	char text[64];
	int r = 0;

	if (resources->block_io.weight.set && resources->block_io.weight.value) {
		snprintf(text, sizeof(text), "%lld", (long long) resources->block_io.weight.value);
		r = put_weight(cgroup, "blkio.weight", "blockIO.weight", text, err);
	}
	if (r == 0 && resources->block_io.leaf_weight.set && resources->block_io.leaf_weight.value)
		r = put_number(cgroup, "blkio", "blkio.leaf_weight", "blockIO.leafWeight",
			       &resources->block_io.leaf_weight, err);
	for (size_t i = 0; r == 0 && i < resources->block_io.device_count; i++) {
		const struct oci_weight_device *device = &resources->block_io.devices[i];

		if (device->weight.set) {
			snprintf(text, sizeof(text), "%u:%u %lld", device->major, device->minor,
				 (long long) device->weight.value);
			r = put_weight(cgroup, "blkio.weight_device", "blockIO.weightDevice", text,
				       err);
		}
		if (r == 0 && device->leaf_weight.set)
			r = resources_put(cgroup, "blkio", "blkio.leaf_weight_device",
					  "blockIO.weightDevice", err, "%u:%u %lld", device->major,
					  device->minor, (long long) device->leaf_weight.value);
	}
	return r;
}

int resources_v1_io(const struct oci_resources *resources, const struct cgroup *cgroup,
		    struct error *err)
{
	static const char *const files[OCI_THROTTLE_COUNT] = {
		"blkio.throttle.read_bps_device",
		"blkio.throttle.write_bps_device",
		"blkio.throttle.read_iops_device",
		"blkio.throttle.write_iops_device",
	};
	int r = apply_blkio_weights(resources, cgroup, err);

	for (size_t kind = 0; kind < OCI_THROTTLE_COUNT; kind++) {
		const struct oci_throttles *throttles = &resources->block_io.throttles[kind];

		for (size_t i = 0; r == 0 && i < throttles->count; i++)
			r = resources_put(cgroup, "blkio", files[kind], "blockIO.throttle", err,
					  "%u:%u %llu", throttles->list[i].major,
					  throttles->list[i].minor,
					  (unsigned long long) throttles->list[i].rate);
	}
	return r;
}

int resources_v1_hugetlb(const struct oci_resources *resources, const struct cgroup *cgroup,
			 struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < resources->hugepage_count; i++) {
		const struct oci_hugepage *page = &resources->hugepages[i];
		char file[64];

		snprintf(file, sizeof(file), "hugetlb.%s.limit_in_bytes", page->page_size);
		r = resources_put(cgroup, "hugetlb", file, "hugepageLimits", err, "%llu",
				  (unsigned long long) page->limit);
		if (r < 0)
			break;
		/* What is reserved and not touched yet; kernels before 5.7 do not count it. */
		snprintf(file, sizeof(file), "hugetlb.%s.rsvd.limit_in_bytes", page->page_size);
		if (cgroup_has(cgroup, "hugetlb")) {
			char text[32];

			snprintf(text, sizeof(text), "%llu", (unsigned long long) page->limit);
			(void) cgroup_write(cgroup, "hugetlb", file, text);
		}
	}
	return r;
}

int resources_v1_net_cls(const struct oci_resources *resources, const struct cgroup *cgroup,
			 struct error *err)
{
	return put_number(cgroup, "net_cls", "net_cls.classid", "network.classID",
			  &resources->class_id, err);
}

int resources_v1_net_prio(const struct oci_resources *resources, const struct cgroup *cgroup,
			  struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < resources->priority_count; i++)
		r = resources_put(cgroup, "net_prio", "net_prio.ifpriomap", "network.priorities",
				  err, "%s %u", resources->priorities[i].interface,
				  resources->priorities[i].priority);
	return r;
}
