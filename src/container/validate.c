#include "container/validate.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

static bool starts(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

int validate_sysctl(const struct oci_spec *spec, const char *name, struct error *err)
{
	static const char *const ipc[] = { "kernel.msgmax",     "kernel.msgmnb",
					   "kernel.msgmni",     "kernel.sem",
					   "kernel.shmall",     "kernel.shmmax",
					   "kernel.shmmni",     "kernel.shm_rmid_forced",
					   "kernel.auto_msgmni" };
	const struct oci_namespace *ns = spec->linux_.ns;
	enum oci_ns needs = OCI_NS_COUNT;
	char dotted[128];
	size_t i;

	if (!name[0] || strlen(name) >= sizeof(dotted) || strstr(name, ".."))
		return error_say(err, -EINVAL, "linux.sysctl: \"%.64s\" is not a name", name);
	for (i = 0; name[i]; i++)
		dotted[i] = name[i] == '/' ? '.' : name[i];
	dotted[i] = '\0';
	if (starts(dotted, "net."))
		needs = OCI_NS_NETWORK;
	else if (starts(dotted, "fs.mqueue."))
		needs = OCI_NS_IPC;
	else if (starts(dotted, "user."))
		needs = OCI_NS_USER;
	else if (strcmp(dotted, "kernel.domainname") == 0)
		needs = OCI_NS_UTS;
	for (i = 0; i < ARRAY_COUNT(ipc); i++)
		if (strcmp(dotted, ipc[i]) == 0)
			needs = OCI_NS_IPC;
	if (strcmp(dotted, "kernel.hostname") == 0)
		return error_say(err, -EINVAL,
				 "linux.sysctl: kernel.hostname is set by the property hostname");
	if (needs == OCI_NS_COUNT)
		return error_say(err, -EINVAL,
				 "linux.sysctl: %s is not a value of a namespace, it would change "
				 "the host",
				 name);
	if (!ns[needs].wanted)
		return error_say(
			err, -EINVAL,
			"linux.sysctl: %s needs a %s namespace, or it would change the host", name,
			oci_ns_name(needs));
	return 0;
}

static int check_namespaces(const struct oci_spec *spec, struct error *err)
{
	const struct oci_namespace *ns = spec->linux_.ns;
	const struct oci_linux *linux_ = &spec->linux_;
	bool maps = linux_->uid_maps.count || linux_->gid_maps.count;

	if (!ns[OCI_NS_MOUNT].wanted)
		return error_say(
			err, -EINVAL,
			"linux.namespaces: must have a mount namespace, or the mounts would "
			"be the host's");
	if (ns[OCI_NS_USER].wanted && !ns[OCI_NS_USER].path &&
	    (!linux_->uid_maps.count || !linux_->gid_maps.count))
		return error_say(
			err, -EINVAL,
			"linux.namespaces: a new user namespace needs linux.uidMappings and "
			"linux.gidMappings");
	if (maps && !ns[OCI_NS_USER].wanted)
		return error_say(err, -EINVAL,
				 "linux.uidMappings: needs a user namespace in linux.namespaces");
	if (spec->hostname && spec->hostname[0] && !ns[OCI_NS_UTS].wanted)
		return error_say(err, -EINVAL,
				 "hostname: needs a uts namespace in linux.namespaces");
	if (spec->domainname && spec->domainname[0] && !ns[OCI_NS_UTS].wanted)
		return error_say(err, -EINVAL,
				 "domainname: needs a uts namespace in linux.namespaces");
	if (linux_->net_device_count && !ns[OCI_NS_NETWORK].wanted)
		return error_say(err, -EINVAL,
				 "linux.netDevices: needs a network namespace in linux.namespaces");
	if ((linux_->monotonic.set || linux_->boottime.set) &&
	    (!ns[OCI_NS_TIME].wanted || ns[OCI_NS_TIME].path))
		return error_say(
			err, -EINVAL,
			"linux.timeOffsets: needs a new time namespace in linux.namespaces");
	return 0;
}

static int check_paths(const char *property, oci_strings paths, struct error *err)
{
	for (; paths && *paths; paths++)
		if ((*paths)[0] != '/')
			return error_say(err, -EINVAL, "%s: \"%.64s\" is not an absolute path",
					 property, *paths);
	return 0;
}

int validate_spec(const struct oci_spec *spec, struct error *err)
{
	int r;

	if (!spec->process)
		return error_say(err, -EINVAL, "process: is missing");
	if (!spec->has_root && !spec->linux_.ns[OCI_NS_MOUNT].path)
		return error_say(err, -EINVAL, "root: is missing");
	r = check_namespaces(spec, err);
	if (r < 0)
		return r;
	r = check_paths("linux.maskedPaths", spec->linux_.masked_paths, err);
	if (r == 0)
		r = check_paths("linux.readonlyPaths", spec->linux_.readonly_paths, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < spec->linux_.sysctl_count; i++) {
		r = validate_sysctl(spec, spec->linux_.sysctl[i].name, err);
		if (r < 0)
			return r;
	}
	return 0;
}
