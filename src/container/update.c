#include "container/update.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "codec/oci_update.h"
#include "container/resources.h"
#include "container/rootless.h"
#include "container/systemd.h"
#include "kern/cgroup.h"

enum { SAVED_MAX = 512, RESTORE_TRIES = 4 };

/* ---- what it was before ---- */

struct saved {
	const char *controller; /* NULL: the version 2 folder, whatever it offers */
	char *file;
	char *text;
};

struct snapshot {
	const struct cgroup *cgroup;
	struct saved list[SAVED_MAX];
	size_t count;
	bool oom_killer; /* is on, and the change takes it away */
};

static inline void snapshot_done_autop(struct snapshot *snapshot)
{
	for (size_t i = 0; i < snapshot->count; i++) {
		free(snapshot->list[i].file);
		free(snapshot->list[i].text);
	}
}

static int read_now(const struct cgroup *cgroup, const char *controller, const char *file,
		    char **ret)
{
	if (controller)
		return cgroup_read(cgroup, controller, file, ret);
	if (cgroup_v2_fd(cgroup) < 0)
		return -EOPNOTSUPP;
	return file_read(cgroup_v2_fd(cgroup), file, 1 << 20, ret, NULL);
}

static int write_now(const struct cgroup *cgroup, const char *controller, const char *file,
		     const char *text)
{
	return controller ? cgroup_write(cgroup, controller, file, text)
			  : file_write_kernel(cgroup_v2_fd(cgroup), file, text);
}

/* What cannot be read was not there, and cannot be written by the change either. */
static int save(struct snapshot *snapshot, const char *controller, const char *file,
		struct error *err)
{
	AUTO(free) char *text = NULL;

	if (read_now(snapshot->cgroup, controller, file, &text) < 0)
		return 0;
	if (snapshot->count == SAVED_MAX)
		return error_say(err, -E2BIG, "too many limits in one change");
	snapshot->list[snapshot->count++] =
		(struct saved){ controller, mem_strdup(file), TAKE_PTR(text) };
	return 0;
}

static int save_hugepages(struct snapshot *snapshot, const struct oci_resources *change,
			  struct error *err)
{
	static const char *const suffixes[] = { "max", "rsvd.max", "limit_in_bytes",
						"rsvd.limit_in_bytes" };
	int r = 0;

	for (size_t i = 0; i < change->hugepage_count; i++) {
		for (size_t j = 0; r == 0 && j < ARRAY_COUNT(suffixes); j++) {
			char file[64];

			snprintf(file, sizeof(file), "hugetlb.%s.%s",
				 change->hugepages[i].page_size, suffixes[j]);
			r = save(snapshot, "hugetlb", file, err);
		}
	}
	return r;
}

/* Its file tells more than it takes, so it is no text to be written back. */
static bool has_oom_killer(const struct cgroup *cgroup)
{
	AUTO(free) char *text = NULL;

	return cgroup_read(cgroup, "memory", "memory.oom_control", &text) == 0 &&
	       strstr(text, "oom_kill_disable 0");
}

static int snapshot_take(struct snapshot *snapshot, const struct oci_resources *change,
			 struct error *err)
{
	static const char *const files[][2] = {
		{ "cpuset", "cpuset.cpus" },
		{ "cpuset", "cpuset.mems" },
		{ "cpu", "cpu.shares" },
		{ "cpu", "cpu.cfs_period_us" },
		{ "cpu", "cpu.cfs_quota_us" },
		{ "cpu", "cpu.cfs_burst_us" },
		{ "cpu", "cpu.rt_period_us" },
		{ "cpu", "cpu.rt_runtime_us" },
		{ "cpu", "cpu.idle" },
		{ "cpu", "cpu.weight" },
		{ "cpu", "cpu.max" },
		{ "cpu", "cpu.max.burst" },
		{ "memory", "memory.limit_in_bytes" },
		{ "memory", "memory.memsw.limit_in_bytes" },
		{ "memory", "memory.soft_limit_in_bytes" },
		{ "memory", "memory.kmem.limit_in_bytes" },
		{ "memory", "memory.kmem.tcp.limit_in_bytes" },
		{ "memory", "memory.swappiness" },
		{ "memory", "memory.max" },
		{ "memory", "memory.swap.max" },
		{ "memory", "memory.low" },
		{ "pids", "pids.max" },
		{ "rdma", "rdma.max" },
		{ "net_cls", "net_cls.classid" },
		{ "net_prio", "net_prio.ifpriomap" },
		{ "blkio", "blkio.weight" },
		{ "blkio", "blkio.leaf_weight" },
		{ "blkio", "blkio.weight_device" },
		{ "blkio", "blkio.leaf_weight_device" },
		{ "blkio", "blkio.bfq.weight" },
		{ "blkio", "blkio.bfq.weight_device" },
		{ "blkio", "blkio.throttle.read_bps_device" },
		{ "blkio", "blkio.throttle.write_bps_device" },
		{ "blkio", "blkio.throttle.read_iops_device" },
		{ "blkio", "blkio.throttle.write_iops_device" },
		{ "io", "io.weight" },
		{ "io", "io.bfq.weight" },
		{ "io", "io.max" },
	};
	int r = 0;

	snapshot->oom_killer =
		change->memory.disable_oom_killer && has_oom_killer(snapshot->cgroup);
	for (size_t i = 0; r == 0 && i < ARRAY_COUNT(files); i++)
		r = save(snapshot, files[i][0], files[i][1], err);
	for (size_t i = 0; r == 0 && i < change->unified_count; i++)
		if (!strchr(change->unified[i].name, '/'))
			r = save(snapshot, NULL, change->unified[i].name, err);
	return r < 0 ? r : save_hugepages(snapshot, change, err);
}

/* ---- back to it ---- */

/* A device's line is removed by saying that it has no limit, in each file's own words. */
static const char *unlimited(const char *file)
{
	if (strcmp(file, "io.max") == 0)
		return "rbps=max wbps=max riops=max wiops=max";
	return strcmp(file, "io.weight") == 0 || strcmp(file, "io.bfq.weight") == 0 ? "default"
										    : "0";
}

static bool has_line_of(const char *text, const char *key, size_t size)
{
	for (const char *p = text; p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
		if (strncmp(p, key, size) == 0 && p[size] == ' ')
			return true;
	return false;
}

static bool is_device_line(const char *line)
{
	size_t major = strspn(line, "0123456789");

	return major > 0 && line[major] == ':';
}

static void restore_lines(const struct cgroup *cgroup, const struct saved *saved, const char *now)
{
	AUTO(free) char *new_lines = mem_strdup(now);
	AUTO(free) char *old_lines = mem_strdup(saved->text);
	char *save_line = NULL;

	for (char *line = strtok_r(new_lines, "\n", &save_line); line;
	     line = strtok_r(NULL, "\n", &save_line)) {
		AUTO(free) char *reset = NULL;
		size_t key = strcspn(line, " ");

		if (!is_device_line(line) || has_line_of(saved->text, line, key))
			continue;
		reset = mem_printf("%.*s %s", (int) key, line, unlimited(saved->file));
		(void) write_now(cgroup, saved->controller, saved->file, reset);
	}
	for (char *line = strtok_r(old_lines, "\n", &save_line); line;
	     line = strtok_r(NULL, "\n", &save_line))
		(void) write_now(cgroup, saved->controller, saved->file, line);
}

/* Limits bound each other, so what is refused now may be taken after the next one. */
static void snapshot_restore(const struct snapshot *snapshot)
{
	bool same = false;

	if (snapshot->oom_killer)
		(void) write_now(snapshot->cgroup, "memory", "memory.oom_control", "0");
	for (int i = 0; !same && i < RESTORE_TRIES; i++) {
		same = true;
		for (size_t j = 0; j < snapshot->count; j++) {
			const struct saved *saved = &snapshot->list[j];
			AUTO(free) char *now = NULL;

			if (read_now(snapshot->cgroup, saved->controller, saved->file, &now) < 0 ||
			    strcmp(now, saved->text) == 0)
				continue;
			same = false;
			if (strchr(saved->text, ' ') || strchr(now, ' '))
				restore_lines(snapshot->cgroup, saved, now);
			else
				(void) write_now(snapshot->cgroup, saved->controller, saved->file,
						 saved->text);
		}
	}
}

/* ---- the record ---- */

static int read_current(const struct record *record, json_t **ret, struct error *err)
{
	AUTO(free) char *text = NULL;
	size_t size;
	int r = file_read(record->fd, RECORD_RESOURCES, OCI_CONFIG_MAX, &text, &size);

	if (r == 0)
		return oci_update_decode(text, size, ret, err);
	if (r == -ENOENT)
		r = file_read(record->fd, "config.json", OCI_CONFIG_MAX, &text, &size);
	if (r < 0)
		return error_set(err, r, "%s/config.json", record->path);
	return oci_update_from_config(text, size, ret, err);
}

static int write_current(const struct record *record, const json_t *resources, struct error *err)
{
	AUTO(free) char *text = json_text(resources);
	int r = file_write_atomic(record->fd, RECORD_RESOURCES, text, strlen(text), 0600, 0);

	return r < 0 ? error_set(err, r, "%s/" RECORD_RESOURCES, record->path) : 0;
}

/* ---- the change ---- */

/*
 * The kernel keeps memory <= memory+swap at every moment.  Raising both must begin with the sum,
 * lowering both with memory, which is how resources are applied.
 */
static void raise_sum_first(const struct oci_resources *change, const struct cgroup *cgroup)
{
	const struct oci_opt *swap = &change->memory.swap;
	AUTO(free) char *now = NULL;
	char text[32];

	if (!swap->set || cgroup_is_v2(cgroup, "memory") ||
	    cgroup_read(cgroup, "memory", "memory.memsw.limit_in_bytes", &now) < 0)
		return;
	if (swap->value >= 0 && swap->value <= strtoll(now, NULL, 10))
		return;
	snprintf(text, sizeof(text), "%lld", (long long) swap->value);
	(void) cgroup_write(cgroup, "memory", "memory.memsw.limit_in_bytes", text);
}

/* Version 2 would kill to get below a limit; version 1 refuses by itself. */
static int check_usage(const json_t *change, const struct oci_resources *resources,
		       const struct cgroup *cgroup, struct error *err)
{
	const json_t *memory = json_object_get(change, "memory");
	const struct oci_opt *limit = &resources->memory.limit;
	AUTO(free) char *now = NULL;

	if (!json_is_true(json_object_get(memory, "checkBeforeUpdate")) || !limit->set ||
	    limit->value < 0 || !cgroup_is_v2(cgroup, "memory") ||
	    cgroup_read(cgroup, "memory", "memory.current", &now) < 0)
		return 0;
	if (strtoll(now, NULL, 10) <= limit->value)
		return 0;
	return error_say(err, -EBUSY, "memory.limit: %lld is below what is in use (%lld)",
			 (long long) limit->value, strtoll(now, NULL, 10));
}

static json_int_t number_of(const json_t *resources, const char *group, const char *name,
			    json_int_t absent)
{
	const json_t *value = json_object_get(json_object_get(resources, group), name);

	return json_is_integer(value) ? json_integer_value(value) : absent;
}

/*
 * Version 2 has swap alone.  A change of one of the two needs the other to be understood; a change
 * of memory leaves the swap that is allowed besides it as it was, so the sum moves.
 */
static void complete_swap(const struct cgroup *cgroup, const json_t *current, const json_t *change,
			  json_t *merged, struct oci_resources *resources)
{
	json_int_t old_limit = number_of(current, "memory", "limit", -1);
	json_int_t old_swap = number_of(current, "memory", "swap", -1);

	if (!cgroup_is_v2(cgroup, "memory"))
		return;
	if (resources->memory.swap.set && !resources->memory.limit.set && old_limit > 0)
		resources->memory.limit = (struct oci_opt){ true, old_limit };
	if (resources->memory.limit.set && number_of(change, "memory", "limit", 0) > 0 &&
	    !resources->memory.swap.set && old_limit > 0 && old_swap >= old_limit)
		json_object_set_new(json_object_get(merged, "memory"), "swap",
				    json_integer(old_swap - old_limit +
						 number_of(change, "memory", "limit", 0)));
}

/* Which devices a container may use is decided when it is made. */
static int check_devices(const json_t *current, json_t *change, struct error *err)
{
	const json_t *devices = json_object_get(change, "devices");

	if (json_array_size(devices) > 0 &&
	    !json_equal(devices, json_object_get(current, "devices")))
		return error_say(err, -EOPNOTSUPP,
				 "devices: the rules of a container that exists cannot be changed");
	json_object_del(change, "devices");
	return 0;
}

static int apply(struct record *record, const struct cgroup *cgroup, const json_t *current,
		 const json_t *change, struct error *err)
{
	AUTO(json_decref) json_t *merged = oci_update_merge(current, change);
	AUTO(snapshot_done) struct snapshot snapshot = { .cgroup = cgroup };
	AUTO(oci_spec_free) struct oci_spec *spec = NULL;
	struct oci_resources *resources;
	int r = oci_update_resources(change, &spec, err);

	if (r < 0)
		return r;
	resources = &spec->linux_.resources;
	complete_swap(cgroup, current, change, merged, resources);
	r = check_usage(change, resources, cgroup, err);
	if (r == 0)
		r = snapshot_take(&snapshot, resources, err);
	if (r < 0)
		return r;
	raise_sum_first(resources, cgroup);
	r = resources_apply_limits(resources, cgroup, err);
	if (r == 0)
		r = write_current(record, merged, err);
	if (r == 0 && record->state->unit) {
		r = systemd_set_limits(record->state->unit, resources, rootless_is(), err);
		if (r < 0)
			(void) write_current(record, current, NULL);
	}
	if (r < 0)
		snapshot_restore(&snapshot);
	return r;
}

int update_limits(struct record *record, const json_t *change, struct error *err)
{
	AUTO(cgroup_host_free) struct cgroup_host *host = NULL;
	AUTO(cgroup_free) struct cgroup *cgroup = NULL;
	AUTO(json_decref) json_t *current = NULL;
	AUTO(json_decref) json_t *rest = json_deep_copy(change);
	enum oci_status status;
	int r = record_status(record, &status, err);

	if (r < 0)
		return r;
	if (status == OCI_STATUS_STOPPED || status == OCI_STATUS_CREATING)
		return error_say(err, -EINVAL,
				 "container \"%s\" is %s; only a running one has limits",
				 record->state->id, oci_status_name(status));
	r = record->state->cgroup ? cgroup_host_read(&host) : -ENOENT;
	if (r == 0)
		r = cgroup_open(host, record->state->cgroup, false, &cgroup);
	if (r < 0)
		return error_set(err, r, "control group of container \"%s\"", record->state->id);
	r = read_current(record, &current, err);
	if (r == 0)
		r = check_devices(current, rest, err);
	return r < 0 ? r : apply(record, cgroup, current, rest, err);
}
