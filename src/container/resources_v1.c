#include <errno.h>
#include <stdio.h>
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

static int apply_memory(const struct oci_resources *resources, const struct cgroup *cgroup,
			struct error *err)
{
	const struct oci_opt *limit = &resources->memory.limit, *swap = &resources->memory.swap;
	/* memory <= memory+swap must hold after every write: raising begins with the sum. */
	bool unlimited = limit->set && limit->value < 0;
	int r = 0;

	if (swap->set && limit->set && swap->value >= 0 && limit->value >= 0 &&
	    swap->value < limit->value)
		return error_say(
			err, -EINVAL,
			"linux.resources.memory.swap: %lld is below memory.limit %lld, but it "
			"counts both",
			(long long) swap->value, (long long) limit->value);
	if (unlimited && !swap->set)
		(void) cgroup_write(cgroup, "memory", "memory.memsw.limit_in_bytes", "-1");
	r = put_number(cgroup, "memory", "memory.limit_in_bytes", "memory.limit", limit, err);
	if (r == 0)
		r = put_number(cgroup, "memory", "memory.memsw.limit_in_bytes", "memory.swap", swap,
			       err);
	if (r == 0)
		r = put_number(cgroup, "memory", "memory.soft_limit_in_bytes", "memory.reservation",
			       &resources->memory.reservation, err);
	if (r == 0)
		r = put_number(cgroup, "memory", "memory.kmem.limit_in_bytes", "memory.kernel",
			       &resources->memory.kernel, err);
	if (r == 0)
		r = put_number(cgroup, "memory", "memory.kmem.tcp.limit_in_bytes",
			       "memory.kernelTCP", &resources->memory.kernel_tcp, err);
	if (r == 0)
		r = put_number(cgroup, "memory", "memory.swappiness", "memory.swappiness",
			       &resources->memory.swappiness, err);
	if (r == 0 && resources->memory.use_hierarchy.set)
		r = put_number(cgroup, "memory", "memory.use_hierarchy", "memory.useHierarchy",
			       &resources->memory.use_hierarchy, err);
	if (r == 0 && resources->memory.disable_oom_killer)
		r = resources_put(cgroup, "memory", "memory.oom_control", "memory.disableOOMKiller",
				  err, "1");
	return r;
}

static int apply_cpu(const struct oci_resources *resources, const struct cgroup *cgroup,
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

static int apply_cpuset(const struct oci_resources *resources, const struct cgroup *cgroup,
			struct error *err)
{
	int r = 0;

	if (resources->cpu.cpus && resources->cpu.cpus[0])
		r = resources_put(cgroup, "cpuset", "cpuset.cpus", "cpu.cpus", err, "%s",
				  resources->cpu.cpus);
	if (r == 0 && resources->cpu.mems && resources->cpu.mems[0])
		r = resources_put(cgroup, "cpuset", "cpuset.mems", "cpu.mems", err, "%s",
				  resources->cpu.mems);
	return r;
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

static int apply_blkio(const struct oci_resources *resources, const struct cgroup *cgroup,
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

static int apply_hugetlb(const struct oci_resources *resources, const struct cgroup *cgroup,
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

static int apply_network(const struct oci_resources *resources, const struct cgroup *cgroup,
			 const char *controller, struct error *err)
{
	int r = 0;

	if (strcmp(controller, "net_cls") == 0)
		return put_number(cgroup, "net_cls", "net_cls.classid", "network.classID",
				  &resources->class_id, err);
	for (size_t i = 0; r == 0 && i < resources->priority_count; i++)
		r = resources_put(cgroup, "net_prio", "net_prio.ifpriomap", "network.priorities",
				  err, "%s %u", resources->priorities[i].interface,
				  resources->priorities[i].priority);
	return r;
}

static int apply_rdma(const struct oci_resources *resources, const struct cgroup *cgroup,
		      struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < resources->rdma_count; i++) {
		const struct oci_rdma *rdma = &resources->rdma[i];
		char handles[16] = "max", objects[16] = "max";

		if (rdma->handles.set)
			snprintf(handles, sizeof(handles), "%u", (uint32_t) rdma->handles.value);
		if (rdma->objects.set)
			snprintf(objects, sizeof(objects), "%u", (uint32_t) rdma->objects.value);
		r = resources_put(cgroup, "rdma", "rdma.max", "rdma", err,
				  "%s hca_handle=%s hca_object=%s", rdma->device, handles, objects);
	}
	return r;
}

int resources_apply_v1(const struct oci_resources *resources, const struct cgroup *cgroup,
		       const char *controller, struct error *err)
{
	if (strcmp(controller, "memory") == 0)
		return apply_memory(resources, cgroup, err);
	if (strcmp(controller, "cpu") == 0)
		return apply_cpu(resources, cgroup, err);
	if (strcmp(controller, "cpuset") == 0)
		return apply_cpuset(resources, cgroup, err);
	if (strcmp(controller, "blkio") == 0)
		return apply_blkio(resources, cgroup, err);
	if (strcmp(controller, "hugetlb") == 0)
		return apply_hugetlb(resources, cgroup, err);
	if (strcmp(controller, "rdma") == 0)
		return apply_rdma(resources, cgroup, err);
	if (strcmp(controller, "pids") != 0)
		return apply_network(resources, cgroup, controller, err);
	/* Zero and below: as many as one likes. */
	if (resources->pids_limit.value <= 0)
		return resources_put(cgroup, "pids", "pids.max", "pids.limit", err, "max");
	return put_number(cgroup, "pids", "pids.max", "pids.limit", &resources->pids_limit, err);
}
