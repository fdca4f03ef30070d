#include <stdio.h>
#include <string.h>

#include "agent/bundle_internal.h"
#include "agent/grant.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "image/rootfs.h"

/* What is mounted into an instance, in this order. */

enum { SHM_MODE = 01777 };
#define TMPFS_BYTES (UINT64_C(64) << 20)

json_t *bundle_mount(const char *destination, const char *type, const char *source,
		     const char *options)
{
	AUTO(free) char *copy = mem_strdup(options);
	json_t *array = json_array();
	char *rest = copy, *option;

	while ((option = strsep(&rest, ",")))
		json_array_append_new(array, json_string(option));
	return json_pack("{s:s, s:s, s:s, s:o}", "destination", destination, "type", type, "source",
			 source, "options", array);
}

/* The caller frees. */
static char *tmpfs_options(const char *flags, uint64_t size_bytes, uint32_t mode)
{
	return mem_printf("%s,mode=%o,size=%llu", flags, mode,
			  (unsigned long long) (size_bytes ? size_bytes : TMPFS_BYTES));
}

static bool is_target(const struct run_options *run, const char *path)
{
	for (size_t i = 0; i < run->mount_count; i++)
		if (strcmp(run->mounts[i].target, path) == 0)
			return true;
	return false;
}

static json_t *id_map(uint32_t disk, uint32_t host, uint32_t size)
{
	return json_pack("[{s:I, s:I, s:I}]", "containerID", (json_int_t) disk, "hostID",
			 (json_int_t) host, "size", (json_int_t) size);
}

/* As the node's policy gives it: the descriptor says which folder, not a path that may change. */
static json_t *granted_mount(const struct bundle *bundle, const struct instance_mount *wanted,
			     const struct grant *grant)
{
	uint32_t root = rootfs_slot_uid(bundle->slot);
	char source[40];

	snprintf(source, sizeof(source), "/proc/self/fd/%d", grant->child_fd);
	AUTO(free)
	char *options = mem_printf("bind,rprivate,nosuid,nodev%s%s",
				   wanted->read_only || grant->read_only ? ",ro" : "",
				   wanted->no_exec ? ",noexec" : "");
	json_t *object = bundle_mount(wanted->target, "bind", source, options);

	if (grant->idmap == POLICY_IDMAP_NONE)
		return object;
	bool same = grant->idmap == POLICY_IDMAP_SAME;
	json_object_set_new(object, "uidMappings",
			    same ? id_map(0, root, LAYER_UID_COUNT) : id_map(grant->uid, root, 1));
	json_object_set_new(object, "gidMappings",
			    same ? id_map(0, root, LAYER_UID_COUNT) : id_map(grant->gid, root, 1));
	return object;
}

/* What the launch asked for. */
static void add_asked(const struct bundle *bundle, json_t *array)
{
	const struct run_options *run = &bundle->spec->run;

	for (size_t i = 0; i < run->mount_count; i++) {
		const struct instance_mount *wanted = &run->mounts[i];

		if (wanted->type == MOUNT_TYPE_BIND) {
			json_array_append_new(
				array, granted_mount(bundle, wanted, &bundle->grants->mounts[i]));
			continue;
		}
		AUTO(free)
		char *flags = mem_printf("nosuid,nodev%s%s", wanted->no_exec ? ",noexec" : "",
					 wanted->read_only ? ",ro" : "");
		AUTO(free)
		char *options = tmpfs_options(flags, wanted->size_bytes,
					      wanted->mode ? wanted->mode : SHM_MODE);
		json_array_append_new(array,
				      bundle_mount(wanted->target, "tmpfs", "tmpfs", options));
	}
	for (size_t i = 0; i < run->device_count; i++) {
		char source[40];

		snprintf(source, sizeof(source), "/proc/self/fd/%d",
			 bundle->grants->devices[i].child_fd);
		json_array_append_new(array, bundle_mount(run->devices[i].target, "bind", source,
							  "bind,rprivate,nosuid,noexec"));
	}
}

json_t *bundle_mounts(const struct bundle *bundle)
{
	static const char *const files[] = { "resolv.conf", "hostname", "hosts" };
	const struct run_options *run = &bundle->spec->run;
	const char *ro = run->privileged ? "" : ",ro";
	AUTO(free) char *shm = tmpfs_options("nosuid,noexec,nodev", run->shm_size_bytes, SHM_MODE);
	AUTO(free) char *sys = mem_printf("nosuid,noexec,nodev%s", ro);
	AUTO(free) char *cgroup = mem_printf("nosuid,noexec,nodev,relatime%s", ro);
	json_t *array = json_array();

	json_array_append_new(array, bundle_mount("/proc", "proc", "proc", "nosuid,noexec,nodev"));
	json_array_append_new(array, bundle_mount("/dev", "tmpfs", "tmpfs",
						  "nosuid,strictatime,mode=755,size=65536k"));
	json_array_append_new(
		array, bundle_mount("/dev/pts", "devpts", "devpts",
				    "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"));
	if (!is_target(run, "/dev/shm"))
		json_array_append_new(array, bundle_mount("/dev/shm", "tmpfs", "shm", shm));
	json_array_append_new(
		array, bundle_mount("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"));
	json_array_append_new(array, bundle_mount("/sys", "sysfs", "sysfs", sys));
	json_array_append_new(array, bundle_mount("/sys/fs/cgroup", "cgroup", "cgroup", cgroup));
	for (size_t i = 0; i < ARRAY_COUNT(files); i++) {
		AUTO(free) char *destination = mem_printf("/etc/%s", files[i]);
		AUTO(free) char *source = mem_printf("%s/%s", bundle->dir, files[i]);

		if (!is_target(run, destination))
			json_array_append_new(
				array, bundle_mount(destination, "bind", source, "bind,rprivate"));
	}
	if (run->init)
		json_array_append_new(array, bundle_mount(BUNDLE_INIT_PATH, "bind", bundle->init,
							  "bind,ro,nosuid,nodev"));
	add_asked(bundle, array);
	return array;
}

char **bundle_mount_points(const struct instance_spec *spec)
{
	static const char *const always[] = { "/proc",         "/dev",          "/sys",
					      "/etc/hosts",    "/etc/hostname", "/etc/resolv.conf",
					      BUNDLE_INIT_PATH };
	char **points = NULL;

	for (size_t i = 0; i < ARRAY_COUNT(always); i++)
		strv_append(&points, always[i]);
	for (size_t i = 0; i < spec->run.mount_count; i++)
		strv_append(&points, spec->run.mounts[i].target);
	for (size_t i = 0; i < spec->run.device_count; i++)
		strv_append(&points, spec->run.devices[i].target);
	return points;
}
