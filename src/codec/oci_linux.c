#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/oci_spec_internal.h"

static const char *const ns_names[OCI_NS_COUNT] = {
	[OCI_NS_USER] = "user", [OCI_NS_PID] = "pid",     [OCI_NS_NETWORK] = "network",
	[OCI_NS_IPC] = "ipc",   [OCI_NS_UTS] = "uts",     [OCI_NS_CGROUP] = "cgroup",
	[OCI_NS_TIME] = "time", [OCI_NS_MOUNT] = "mount",
};

const char *oci_ns_name(enum oci_ns ns)
{
	return ns_names[ns];
}

int oci_decode_id_maps(struct oci_spec *spec, struct json_reader *outer, const json_t *object,
		       const char *name, struct oci_id_maps *ret)
{
	json_t *array = NULL, *item;
	size_t i;

	json_read_array(outer, object, name, &array);
	if (outer->result < 0 || !array)
		return outer->result;
	ret->list = oci_alloc(spec, json_array_size(array), sizeof(*ret->list));
	json_array_foreach(array, i, item)
	{
		struct oci_id_map *map = &ret->list[i];
		char where[96];
		struct json_reader in = { .err = outer->err, .where = where };

		snprintf(where, sizeof(where), "%s.%s[%zu]", outer->where, name, i);
		json_read_uint32(&in, item, "containerID", UINT32_MAX - 1, &map->container_id);
		json_read_uint32(&in, item, "hostID", UINT32_MAX - 1, &map->host_id);
		json_read_uint32(&in, item, "size", UINT32_MAX, &map->size);
		if (in.result == 0 && map->size == 0)
			oci_fail(&in, "size", "must be at least 1");
		if (in.result < 0) {
			outer->result = in.result;
			return in.result;
		}
	}
	ret->count = json_array_size(array);
	return 0;
}

static int decode_namespaces(struct oci_spec *spec, const json_t *array, struct error *err)
{
	json_t *item;
	size_t i;

	json_array_foreach(array, i, item)
	{
		char where[48];
		struct json_reader in = { .err = err, .where = where };
		const char *type = NULL, *path = NULL;
		size_t ns = 0;

		snprintf(where, sizeof(where), "linux.namespaces[%zu]", i);
		oci_read_text(&in, item, "type", &type);
		oci_read_text(&in, item, "path", &path);
		if (in.result < 0)
			return in.result;
		while (ns < OCI_NS_COUNT && (!type || strcmp(ns_names[ns], type) != 0))
			ns++;
		if (ns == OCI_NS_COUNT)
			return oci_fail(&in, "type",
					"\"%.32s\" is not one of user, pid, network, ipc, uts, "
					"cgroup, time, mount",
					type ? type : "");
		if (spec->linux_.ns[ns].wanted)
			return oci_fail(&in, "type", "%s is there twice", type);
		if (path && path[0] && path[0] != '/')
			return oci_fail(&in, "path", "must be an absolute path");
		spec->linux_.ns[ns].wanted = true;
		spec->linux_.ns[ns].path = path && path[0] ? path : NULL;
	}
	return 0;
}

static int decode_offset(const json_t *offsets, const char *name, struct oci_time_offset *ret,
			 struct error *err)
{
	struct json_reader in = { .err = err, .where = "linux.timeOffsets" };
	json_t *object = NULL;
	char where[48];

	json_read_object(&in, offsets, name, &object);
	if (in.result < 0 || !object)
		return in.result;
	snprintf(where, sizeof(where), "linux.timeOffsets.%s", name);
	in.where = where;
	json_read_int(&in, object, "secs", INT64_MIN, INT64_MAX, &ret->secs);
	json_read_uint32(&in, object, "nanosecs", 999999999, &ret->nanosecs);
	ret->set = true;
	return in.result;
}

static int decode_device(const json_t *object, size_t index, struct oci_device *device,
			 struct error *err)
{
	char where[48];
	struct json_reader in = { .err = err, .where = where };
	const char *type = NULL;

	snprintf(where, sizeof(where), "linux.devices[%zu]", index);
	device->mode = 0666;
	oci_read_text(&in, object, "type", &type);
	oci_read_text(&in, object, "path", &device->path);
	json_read_uint32(&in, object, "major", 4095, &device->major);
	json_read_uint32(&in, object, "minor", 1048575, &device->minor);
	json_read_uint32(&in, object, "fileMode", 0177777, &device->mode);
	json_read_uint32(&in, object, "uid", UINT32_MAX - 1, &device->uid);
	json_read_uint32(&in, object, "gid", UINT32_MAX - 1, &device->gid);
	if (in.result < 0)
		return in.result;
	if (!type || strlen(type) != 1 || !strchr("cubp", type[0]))
		return oci_fail(&in, "type", "must be \"c\", \"b\", \"u\" or \"p\"");
	if (!device->path || device->path[0] != '/')
		return oci_fail(&in, "path", "must be an absolute path");
	device->type = type[0] == 'u' ? 'c' : type[0];
	device->mode &= 07777;
	return 0;
}

static int decode_devices(struct oci_spec *spec, const json_t *array, struct error *err)
{
	struct oci_linux *linux_ = &spec->linux_;
	json_t *item;
	size_t i;

	linux_->devices = oci_alloc(spec, json_array_size(array), sizeof(*linux_->devices));
	json_array_foreach(array, i, item)
	{
		int r = decode_device(item, i, &linux_->devices[i], err);

		if (r < 0)
			return r;
	}
	linux_->device_count = json_array_size(array);
	return 0;
}

static int decode_personality(struct oci_spec *spec, const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "linux.personality" };
	const char *domain = NULL;

	oci_read_text(&in, object, "domain", &domain);
	oci_refuse(&in, object, "flags", "no flag is defined");
	if (in.result < 0)
		return in.result;
	if (!domain || (strcmp(domain, "LINUX") != 0 && strcmp(domain, "LINUX32") != 0))
		return oci_fail(&in, "domain", "must be \"LINUX\" or \"LINUX32\"");
	spec->linux_.personality = domain;
	return 0;
}

/* The members that are plain values. */
static void read_values(struct oci_spec *spec, struct json_reader *in, const json_t *object)
{
	struct oci_linux *linux_ = &spec->linux_;

	oci_decode_id_maps(spec, in, object, "uidMappings", &linux_->uid_maps);
	oci_decode_id_maps(spec, in, object, "gidMappings", &linux_->gid_maps);
	oci_read_text(in, object, "cgroupsPath", &linux_->cgroups_path);
	oci_read_pairs(spec, in, object, "sysctl", &linux_->sysctl, &linux_->sysctl_count);
	oci_read_text(in, object, "rootfsPropagation", &linux_->rootfs_propagation);
	oci_read_texts(spec, in, object, "maskedPaths", &linux_->masked_paths);
	oci_read_texts(spec, in, object, "readonlyPaths", &linux_->readonly_paths);
	oci_read_text(in, object, "mountLabel", &linux_->mount_label);
	oci_refuse(in, object, "intelRdt", "cache allocation (resctrl) is not supported");
	oci_refuse(in, object, "netDevices", "moving host network devices is not supported");
	oci_refuse(in, object, "memoryPolicy", "NUMA memory policies are not supported");
}

int oci_decode_linux(struct oci_spec *spec, const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "linux" };
	json_t *namespaces = NULL, *offsets = NULL, *devices = NULL, *resources = NULL;
	json_t *seccomp = NULL, *personality = NULL;
	int r;

	read_values(spec, &in, object);
	json_read_array(&in, object, "namespaces", &namespaces);
	json_read_object(&in, object, "timeOffsets", &offsets);
	json_read_array(&in, object, "devices", &devices);
	json_read_object(&in, object, "resources", &resources);
	json_read_object(&in, object, "seccomp", &seccomp);
	json_read_object(&in, object, "personality", &personality);
	if (in.result < 0)
		return in.result;
	if (!spec->linux_.seccomp_text)
		spec->linux_.seccomp = seccomp;
	r = namespaces ? decode_namespaces(spec, namespaces, err) : 0;
	if (r == 0 && offsets)
		r = decode_offset(offsets, "monotonic", &spec->linux_.monotonic, err);
	if (r == 0 && offsets)
		r = decode_offset(offsets, "boottime", &spec->linux_.boottime, err);
	if (r == 0 && devices)
		r = decode_devices(spec, devices, err);
	if (r == 0 && resources)
		r = oci_decode_resources(spec, resources, err);
	if (r == 0 && personality)
		r = decode_personality(spec, personality, err);
	return r;
}
