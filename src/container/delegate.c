#include "container/delegate.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

enum { DELEGATE_MAX = 4096 };

static bool has_option(oci_strings options, const char *name)
{
	for (; options && *options; options++)
		if (strcmp(*options, name) == 0)
			return true;
	return false;
}

bool delegate_wanted(const struct oci_spec *spec)
{
	const struct oci_namespace *ns = &spec->linux_.ns[OCI_NS_CGROUP];

	if (!ns->wanted || ns->path)
		return false;
	for (size_t i = 0; i < spec->mount_count; i++) {
		const struct oci_mount *mount = &spec->mounts[i];

		if (mount->source && strcmp(mount->source, "cgroup") == 0 &&
		    strcmp(mount->destination, "/sys/fs/cgroup") == 0 &&
		    !has_option(mount->options, "ro"))
			return true;
	}
	return false;
}

int64_t delegate_host_id(const struct oci_id_maps *maps, uint32_t id)
{
	if (maps->count == 0)
		return id;
	for (size_t i = 0; i < maps->count; i++)
		if (id >= maps->list[i].container_id &&
		    id - maps->list[i].container_id < maps->list[i].size)
			return (int64_t) maps->list[i].host_id + (id - maps->list[i].container_id);
	return -1;
}

int delegate_cgroup(const struct oci_spec *spec, const struct cgroup_host *host,
		    const struct cgroup *cgroup, struct error *err)
{
	AUTO(free) char *text = NULL;
	int fd = cgroup_v2_fd(cgroup);
	char *save = NULL;
	int64_t uid;

	if (host->mode != CGROUP_V2 || fd < 0 || !delegate_wanted(spec))
		return 0;
	uid = delegate_host_id(&spec->linux_.uid_maps, spec->process->uid);
	if (uid <= 0)
		return 0;
	if (file_read(AT_FDCWD, "/sys/kernel/cgroup/delegate", DELEGATE_MAX, &text, NULL) < 0)
		text = mem_strdup("cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n");
	if (fchown(fd, (uid_t) uid, (gid_t) -1) < 0)
		return error_set(err, -errno, "owner of the control group");
	for (char *name = strtok_r(text, "\n", &save); name; name = strtok_r(NULL, "\n", &save))
		if (fchownat(fd, name, (uid_t) uid, (gid_t) -1, AT_SYMLINK_NOFOLLOW) < 0 &&
		    errno != ENOENT)
			return error_set(err, -errno, "owner of the control group's %s", name);
	return 0;
}
