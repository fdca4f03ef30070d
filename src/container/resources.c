#include "container/resources.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "container/device_rules.h"
#include "container/resources_internal.h"

/*
 * A curve through (2, 1), (1024, 100) and (262144, 10000), so that the default of one version is
 * the default of the other; the field's runtimes agree on it since 2025.
 */
uint64_t resources_weight_of_shares(uint64_t shares)
{
	double l;

	if (shares <= 2)
		return 1;
	if (shares >= 262144)
		return 10000;
	l = log2((double) shares);
	return (uint64_t) ceil(pow(10, (l * l + 125 * l) / 612.0 - 7.0 / 34.0));
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

/* Some files take one line in each write. */
static int write_lines(int dir_fd, const char *file, const char *text)
{
	do {
		size_t n = strcspn(text, "\n");
		AUTO(free) char *line = mem_strndup(text, n);
		int r = file_write_kernel(dir_fd, file, line);

		if (r < 0)
			return r;
		text += n + (text[n] == '\n');
	} while (*text);
	return 0;
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
		r = write_lines(cgroup_v2_fd(cgroup), pair->name, pair->value);
		if (r == -ENOENT)
			return resources_refuse(property, err);
		if (r < 0)
			return error_set(err, r, "linux.resources.%s: writing \"%.128s\"", property,
					 pair->value);
	}
	return 0;
}

int resources_check_swap(const struct oci_resources *resources, struct error *err)
{
	int64_t swap = resources->memory.swap.value, limit = resources->memory.limit.value;

	if (resources_asked(&resources->memory.swap) && swap >= 0 &&
	    resources_asked(&resources->memory.limit) && limit >= 0 && swap < limit)
		return error_say(
			err, -EINVAL,
			"linux.resources.memory.swap: %lld is below memory.limit %lld, but "
			"it counts both",
			(long long) swap, (long long) limit);
	return 0;
}

/* ---- what is the same in both versions ---- */

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

static int apply_pids(const struct oci_resources *resources, const struct cgroup *cgroup,
		      struct error *err)
{
	/* Zero and below: as many as one likes. */
	if (resources->pids_limit.value <= 0)
		return resources_put(cgroup, "pids", "pids.max", "pids.limit", err, "max");
	return resources_put(cgroup, "pids", "pids.max", "pids.limit", err, "%lld",
			     (long long) resources->pids_limit.value);
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

/* ---- whether anything of a controller is asked for ---- */

static bool wants_cpuset(const struct oci_resources *r)
{
	return (r->cpu.cpus && r->cpu.cpus[0]) || (r->cpu.mems && r->cpu.mems[0]);
}

static bool wants_cpu(const struct oci_resources *r)
{
	return r->cpu.shares.set || r->cpu.quota.set || r->cpu.burst.set || r->cpu.period.set ||
	       r->cpu.rt_runtime.set || r->cpu.rt_period.set || r->cpu.idle.set;
}

static bool wants_memory(const struct oci_resources *r)
{
	return resources_asked(&r->memory.limit) || resources_asked(&r->memory.reservation) ||
	       resources_asked(&r->memory.swap) || resources_asked(&r->memory.kernel) ||
	       resources_asked(&r->memory.kernel_tcp) || r->memory.swappiness.set ||
	       r->memory.disable_oom_killer || r->memory.use_hierarchy.set;
}

static bool wants_pids(const struct oci_resources *r)
{
	return r->pids_limit.set;
}

static bool wants_hugetlb(const struct oci_resources *r)
{
	return r->hugepage_count > 0;
}

static bool wants_rdma(const struct oci_resources *r)
{
	return r->rdma_count > 0;
}

static bool wants_net_cls(const struct oci_resources *r)
{
	return r->class_id.set;
}

static bool wants_net_prio(const struct oci_resources *r)
{
	return r->priority_count > 0;
}

static bool wants_io(const struct oci_resources *r)
{
	bool throttled = false;

	for (size_t i = 0; i < OCI_THROTTLE_COUNT; i++)
		throttled = throttled || r->block_io.throttles[i].count;
	return throttled || r->block_io.weight.set || r->block_io.leaf_weight.set ||
	       r->block_io.device_count;
}

static const struct {
	const char *v1;
	const char *v2; /* NULL: version 2 has no such controller */
	bool (*wanted)(const struct oci_resources *resources);
	resources_apply_fn apply_v1;
	resources_apply_fn apply_v2;
} controllers[] = {
	{ "cpuset", "cpuset", wants_cpuset, apply_cpuset, apply_cpuset },
	{ "cpu", "cpu", wants_cpu, resources_v1_cpu, resources_v2_cpu },
	{ "memory", "memory", wants_memory, resources_v1_memory, resources_v2_memory },
	{ "pids", "pids", wants_pids, apply_pids, apply_pids },
	{ "hugetlb", "hugetlb", wants_hugetlb, resources_v1_hugetlb, resources_v2_hugetlb },
	{ "rdma", "rdma", wants_rdma, apply_rdma, apply_rdma },
	{ "net_cls", NULL, wants_net_cls, resources_v1_net_cls, NULL },
	{ "net_prio", NULL, wants_net_prio, resources_v1_net_prio, NULL },
	{ "blkio", "io", wants_io, resources_v1_io, resources_v2_io },
};

bool resources_any(const struct oci_resources *resources)
{
	for (size_t i = 0; i < ARRAY_COUNT(controllers); i++)
		if (controllers[i].wanted(resources))
			return true;
	return resources->unified_count > 0;
}

int resources_apply_limits(const struct oci_resources *resources, const struct cgroup *cgroup,
			   struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_COUNT(controllers); i++) {
		const char *v2 = controllers[i].v2;

		if (!controllers[i].wanted(resources))
			continue;
		/* What neither has is said in the words of the version that the host has. */
		if (v2 && (cgroup_is_v2(cgroup, v2) || !cgroup_has(cgroup, controllers[i].v1)) &&
		    cgroup_v2_fd(cgroup) >= 0)
			r = controllers[i].apply_v2(resources, cgroup, err);
		else
			r = controllers[i].apply_v1(resources, cgroup, err);
	}
	return r < 0 ? r : apply_unified(resources, cgroup, err);
}

int resources_apply(const struct oci_resources *resources, const struct oci_device *devices,
		    size_t device_count, const struct cgroup *cgroup, struct error *err)
{
	int r = device_rules_apply(resources, devices, device_count, cgroup, err);

	return r < 0 ? r : resources_apply_limits(resources, cgroup, err);
}
