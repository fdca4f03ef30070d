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

static void decode_id_map(struct oci_spec *spec, struct json_reader *in, const json_t *object,
			  void *ret)
{
	struct oci_id_map *map = ret;

	(void) spec;
	oci_require(in, object, "containerID");
	oci_require(in, object, "hostID");
	oci_require(in, object, "size");
	json_read_uint32(in, object, "containerID", UINT32_MAX - 1, &map->container_id);
	json_read_uint32(in, object, "hostID", UINT32_MAX - 1, &map->host_id);
	json_read_uint32(in, object, "size", UINT32_MAX, &map->size);
	if (in->result == 0 && map->size == 0)
		oci_fail(in, "size", "must be at least 1");
}

void oci_decode_id_maps(struct oci_spec *spec, struct json_reader *in, const json_t *object,
			const char *name, struct oci_id_maps *ret)
{
	ret->list = oci_read_list(spec, in, object, name, sizeof(*ret->list), decode_id_map,
				  &ret->count);
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

static int decode_offsets(struct oci_spec *spec, const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "linux.timeOffsets" };
	const char *clock;
	json_t *value;
	int r = decode_offset(object, "monotonic", &spec->linux_.monotonic, err);

	if (r == 0)
		r = decode_offset(object, "boottime", &spec->linux_.boottime, err);
	json_object_foreach((json_t *) object, clock, value) if (r == 0 &&
								 strcmp(clock, "monotonic") != 0 &&
								 strcmp(clock, "boottime") != 0) r =
		oci_fail(&in, clock, "is not a clock of a time namespace: monotonic, boottime");
	return r;
}

static void decode_device(struct oci_spec *spec, struct json_reader *in, const json_t *object,
			  void *ret)
{
	struct oci_device *device = ret;
	const char *type = NULL;

	(void) spec;
	device->mode = 0666;
	oci_read_text(in, object, "type", &type);
	oci_read_text(in, object, "path", &device->path);
	json_read_uint32(in, object, "fileMode", 0177777, &device->mode);
	json_read_uint32(in, object, "uid", UINT32_MAX - 1, &device->uid);
	json_read_uint32(in, object, "gid", UINT32_MAX - 1, &device->gid);
	if (in->result < 0)
		return;
	if (!type || strlen(type) != 1 || !strchr("cubp", type[0]))
		oci_fail(in, "type", "must be \"c\", \"b\", \"u\" or \"p\"");
	else if (!device->path || device->path[0] != '/')
		oci_fail(in, "path", "must be an absolute path");
	else if (type[0] != 'p')
		oci_read_device_number(in, object, &device->major, &device->minor);
	if (in->result < 0)
		return;
	device->type = type[0] == 'u' ? 'c' : type[0];
	device->mode &= 07777;
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

/* A name that may stand in a path or a netlink message. */
static bool good_interface(const char *name)
{
	return name[0] && strlen(name) < 16 && !strpbrk(name, "/: \t\n%") &&
	       strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static void decode_net_devices(struct oci_spec *spec, struct json_reader *in, const json_t *object)
{
	struct oci_linux *linux_ = &spec->linux_;
	json_t *members = NULL, *value;
	const char *name;

	json_read_object(in, object, "netDevices", &members);
	if (in->result < 0 || !members)
		return;
	linux_->net_devices =
		oci_alloc(spec, json_object_size(members), sizeof(*linux_->net_devices));
	json_object_foreach(members, name, value)
	{
		struct oci_pair *device = &linux_->net_devices[linux_->net_device_count++];
		char where[96];
		struct json_reader one = { .err = in->err, .where = where };

		snprintf(where, sizeof(where), "linux.netDevices.%.64s", name);
		*device = (struct oci_pair){ name, name };
		oci_read_text(&one, value, "name", &device->value);
		if (one.result == 0 && !device->value[0])
			device->value = name;
		if (one.result == 0 && (!good_interface(name) || !good_interface(device->value)))
			oci_fail(&one, "name", "must be the name of a network interface");
		for (size_t i = 0; one.result == 0 && i + 1 < linux_->net_device_count; i++)
			if (strcmp(linux_->net_devices[i].value, device->value) == 0)
				oci_fail(&one, "name", "%s is there twice", device->value);
		in->result = one.result;
		if (in->result < 0)
			return;
	}
}

static int decode_memory_policy(struct oci_spec *spec, const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "linux.memoryPolicy" };
	struct oci_memory_policy *policy = &spec->linux_.memory_policy;

	oci_read_text(&in, object, "mode", &policy->mode);
	oci_read_text(&in, object, "nodes", &policy->nodes);
	oci_read_texts(spec, &in, object, "flags", &policy->flags);
	if (in.result == 0 && !policy->mode)
		oci_fail(&in, "mode", "is missing; like \"MPOL_BIND\"");
	return in.result;
}

static int decode_rdt(struct oci_spec *spec, const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "linux.intelRdt" };
	struct oci_rdt *rdt = &spec->linux_.rdt;

	rdt->wanted = true;
	oci_read_text(&in, object, "closID", &rdt->clos);
	oci_read_text(&in, object, "l3CacheSchema", &rdt->l3_cache);
	oci_read_text(&in, object, "memBwSchema", &rdt->memory_bandwidth);
	oci_read_texts(spec, &in, object, "schemata", &rdt->schemata);
	oci_refuse(&in, object, "enableCMT", "monitoring groups are not made");
	oci_refuse(&in, object, "enableMBM", "monitoring groups are not made");
	oci_refuse(&in, object, "enableMonitoring", "monitoring groups are not made");
	if (in.result == 0 && rdt->clos &&
	    (!rdt->clos[0] || strchr(rdt->clos, '/') || rdt->clos[0] == '.'))
		oci_fail(&in, "closID", "must be the name of a folder of resctrl");
	if (in.result == 0 && rdt->memory_bandwidth &&
	    (strncmp(rdt->memory_bandwidth, "MB:", 3) != 0 || strchr(rdt->memory_bandwidth, '\n')))
		oci_fail(&in, "memBwSchema", "must be one line like \"MB:0=20;1=70\"");
	return in.result;
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
	linux_->devices = oci_read_list(spec, in, object, "devices", sizeof(*linux_->devices),
					decode_device, &linux_->device_count);
	decode_net_devices(spec, in, object);
}

int oci_decode_linux(struct oci_spec *spec, const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "linux" };
	json_t *namespaces = NULL, *offsets = NULL, *resources = NULL;
	json_t *seccomp = NULL, *personality = NULL, *policy = NULL, *rdt = NULL;
	int r;

	read_values(spec, &in, object);
	json_read_array(&in, object, "namespaces", &namespaces);
	json_read_object(&in, object, "timeOffsets", &offsets);
	json_read_object(&in, object, "resources", &resources);
	json_read_object(&in, object, "seccomp", &seccomp);
	json_read_object(&in, object, "personality", &personality);
	json_read_object(&in, object, "memoryPolicy", &policy);
	json_read_object(&in, object, "intelRdt", &rdt);
	if (in.result < 0)
		return in.result;
	if (!spec->linux_.seccomp_text)
		spec->linux_.seccomp = seccomp;
	r = namespaces ? decode_namespaces(spec, namespaces, err) : 0;
	if (r == 0 && offsets)
		r = decode_offsets(spec, offsets, err);
	if (r == 0 && resources)
		r = oci_decode_resources(spec, resources, err);
	if (r == 0 && personality)
		r = decode_personality(spec, personality, err);
	if (r == 0 && policy && json_object_size(policy) > 0)
		r = decode_memory_policy(spec, policy, err);
	if (r == 0 && rdt)
		r = decode_rdt(spec, rdt, err);
	return r;
}
