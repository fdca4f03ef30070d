#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "container/lsm.h"
#include "container/rootfs.h"
#include "container/rootfs_link.h"
#include "kern/mount.h"
#include "kern/ns.h"

/* ---- idmapped mounts ---- */

static int userns_in_child(const struct ns_id_map *uids, unsigned int uid_count,
			   const struct ns_id_map *gids, unsigned int gid_count)
{
	struct ns_clone child = { .flags = CLONE_NEWUSER, .cgroup_fd = -1, .pidfd = -1 };
	pid_t pid = ns_clone(&child);
	char path[48];
	int r;

	if (pid < 0)
		return (int) pid;
	if (pid == 0)
		for (;;)
			pause();
	r = ns_write_id_maps(pid, uids, uid_count, gids, gid_count);
	if (r == 0) {
		snprintf(path, sizeof(path), "/proc/%d/ns/user", (int) pid);
		r = ns_open(path, CLONE_NEWUSER);
	}
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	close(child.pidfd);
	return r;
}

static struct ns_id_map *kernel_maps(const struct oci_id_maps *maps)
{
	struct ns_id_map *list = mem_new0_array(struct ns_id_map, maps->count + 1);

	for (size_t i = 0; i < maps->count; i++)
		list[i] = (struct ns_id_map){ maps->list[i].container_id, maps->list[i].host_id,
					      maps->list[i].size };
	return list;
}

int rootfs_idmap(int mount_fd, const struct oci_id_maps *uid_maps,
		 const struct oci_id_maps *gid_maps, bool recursive, struct error *err)
{
	AUTO(free) struct ns_id_map *uids = kernel_maps(uid_maps);
	AUTO(free) struct ns_id_map *gids = kernel_maps(gid_maps);
	AUTO(fd_close) int userns = -1;
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP };
	unsigned int flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);

	userns = userns_in_child(uids, (unsigned int) uid_maps->count, gids,
				 (unsigned int) gid_maps->count);
	if (userns < 0)
		return error_set(err, userns, "user namespace of an idmapped mount");
	attr.userns_fd = (uint64_t) userns;
	if (mount_setattr(mount_fd, "", flags, &attr, sizeof(attr)) < 0)
		return error_set(err, -errno, "idmapped mount");
	return 0;
}

/* The mount's own mapping, or the container's. */
static int idmap(const struct oci_spec *spec, const struct rootfs_mount *mount, struct error *err)
{
	const struct oci_id_maps *uid_maps = &mount->spec->uid_maps;
	const struct oci_id_maps *gid_maps = &mount->spec->gid_maps;

	if (uid_maps->count == 0) {
		uid_maps = &spec->linux_.uid_maps;
		gid_maps = &spec->linux_.gid_maps;
	}
	if (uid_maps->count == 0 || gid_maps->count == 0)
		return error_say(err, -EINVAL,
				 "an idmapped mount needs uidMappings and "
				 "gidMappings, of its own or of the container");
	return rootfs_idmap(mount->fd, uid_maps, gid_maps, mount->options.idmap_recursive, err);
}

/* ---- sources ---- */

/*
 * A clone begins as a peer of its original; here it stops to be one, so that nothing mounted in the
 * container shows up on the host, unless that is asked for.
 */
static int detach_propagation(const struct rootfs_plan *plan, int fd,
			      const struct mount_options *options)
{
	if (plan->propagation == MS_SHARED || (options && options->propagation == MS_SHARED))
		return 0;
	return mount_change(fd, "", true, 0, 0, plan->propagation);
}

static int open_bind(const struct rootfs_plan *plan, struct rootfs_mount *mount, struct error *err)
{
	const char *source = mount->spec->source;
	int r;

	if (!source || !source[0])
		return error_say(err, -EINVAL, "source: is missing; a bind mount needs it");
	if (mount->options.data[0])
		return error_say(err, -EINVAL, "options: \"%.64s\" is not for bind mounts",
				 mount->options.data[0]);
	if (mount->options.copy_link) {
		r = rootfs_read_link(source, &mount->link, err);
		if (r < 0 || mount->link)
			return r;
	}
	mount->fd = mount->options.source_nofollow
			    ? rootfs_clone_nofollow(source, mount->options.recursive)
			    : mount_clone(AT_FDCWD, source, mount->options.recursive);
	if (mount->fd < 0)
		return error_set(err, mount->fd, "source \"%s\"", source);
	r = detach_propagation(plan, mount->fd, &mount->options);
	if (r < 0)
		return error_set(err, r, "source \"%s\": propagation", source);
	if (mount->options.idmap || mount->spec->uid_maps.count)
		return idmap(plan->spec, mount, err);
	return 0;
}

/* linux.mountLabel: the files of the kernel itself have labels of its own. */
static void add_label(const struct oci_spec *spec, struct rootfs_mount *mount)
{
	const char *label = spec->linux_.mount_label, *type = mount->spec->type;

	if (!label || !label[0] || mount->cgroup || strcmp(type, "proc") == 0 ||
	    strcmp(type, "sysfs") == 0)
		return;
	/* Of these the kernel has mounted one itself, which keeps its options: no `context`. */
	if (strcmp(type, "mqueue") == 0) {
		mount->root_label = label;
		return;
	}
	mount->label = mem_printf("context=%s", label);
	mount_options_add(&mount->options, mount->label);
}

static int plan_mount(struct rootfs_plan *plan, size_t i, struct error *err)
{
	struct rootfs_mount *mount = &plan->mounts[i];
	const char *type;

	mount->spec = &plan->spec->mounts[i];
	type = mount->spec->type;
	mount_options_parse(mount->spec->options, &mount->options);
	if (type && strcmp(type, "bind") == 0)
		mount->options.bind = true;
	if (mount->options.remount)
		return 0;
	if (mount->options.bind) {
		if (strcmp(mount->spec->destination, "/dev") == 0)
			plan->has_dev = true;
		return open_bind(plan, mount, err);
	}
	if (!type || !type[0])
		return error_say(err, -EINVAL, "type: is missing; only bind mounts need none");
	if (mount->spec->uid_maps.count || mount->options.idmap)
		return error_say(err, -EOPNOTSUPP, "uidMappings: only bind mounts can have them");
	if (mount->options.copy_up && strcmp(type, "tmpfs") != 0)
		return error_say(err, -EINVAL, "options: tmpcopyup is for tmpfs");
	mount->cgroup = strcmp(type, "cgroup") == 0 || strcmp(type, "cgroup2") == 0;
	add_label(plan->spec, mount);
	return 0;
}

/* ---- control groups ---- */

static int clone_cgroup(void *data, const struct cgroup_hierarchy *hierarchy, int dir_fd)
{
	struct rootfs_plan *plan = data;
	struct rootfs_cgroup *to = &plan->cgroups[plan->cgroup_count];
	const char *name = hierarchy->controllers;

	if (hierarchy->v2)
		name = "";
	else if (strncmp(name, "name=", 5) == 0)
		name += 5;
	to->fd = mount_clone(dir_fd, ".", false);
	if (to->fd < 0)
		return to->fd;
	to->name = mem_strdup(name);
	plan->cgroup_count++;
	return detach_propagation(plan, to->fd, NULL);
}

static int plan_cgroups(struct rootfs_plan *plan, const struct cgroup *cgroup, struct error *err)
{
	bool wanted = false;
	int r;

	for (size_t i = 0; i < plan->spec->mount_count; i++)
		wanted = wanted || plan->mounts[i].cgroup;
	if (!wanted)
		return 0;
	/* Who has no group of his own is shown an empty folder: the host's are not his business. */
	if (!cgroup)
		return 0;
	r = cgroup_each(cgroup, clone_cgroup, plan);
	return r < 0 ? error_set(err, r, "mounts: control groups") : 0;
}

/* ---- all ---- */

static int plan_propagation(struct rootfs_plan *plan, struct error *err)
{
	const char *name = plan->spec->linux_.rootfs_propagation;
	uint64_t propagation = MS_SLAVE;
	bool all;

	if (name && name[0] && mount_options_propagation(name, &propagation, &all) < 0)
		return error_say(err, -EINVAL,
				 "linux.rootfsPropagation: \"%.32s\" is not one of shared, slave, "
				 "private, unbindable",
				 name);
	plan->propagation = propagation == MS_UNBINDABLE ? MS_PRIVATE : propagation;
	return 0;
}

static int plan_root(struct rootfs_plan *plan, int root_fd, struct error *err)
{
	const char *path = plan->spec->root_path;
	struct stat st;
	int r;

	if (plan->spec->linux_.ns[OCI_NS_MOUNT].path)
		return 0;
	if (root_fd < 0) {
		AUTO(fd_close) int dir = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);

		if (dir < 0 || fstat(dir, &st) < 0)
			return error_set(err, -errno, "root.path \"%s\"", path);
		/* A bundle that somebody unpacked could name any folder of the host this way. */
		if (!S_ISDIR(st.st_mode))
			return error_say(err, -ENOTDIR, "root.path \"%s\": is %s, not a folder",
					 path, S_ISLNK(st.st_mode) ? "a symbolic link" : "a file");
		plan->root_fd = mount_clone(dir, "", true);
		if (plan->root_fd < 0)
			return error_set(err, plan->root_fd, "root.path \"%s\"", path);
	} else {
		plan->root_fd = root_fd;
	}
	/* A root that is a peer of something cannot be pivoted to. */
	r = mount_change(plan->root_fd, "", true, 0, 0,
			 plan->propagation == MS_SHARED ? MS_PRIVATE : plan->propagation);
	if (r < 0 && root_fd >= 0)
		return error_set(err, r, "--rootfs-fd %d: must be a detached mount", root_fd);
	return r < 0 ? error_set(err, r, "root.path: propagation") : 0;
}

int rootfs_plan_make(const struct oci_spec *spec, const struct cgroup *cgroup, int root_fd,
		     struct rootfs_plan *ret, struct error *err)
{
	struct rootfs_plan plan = { .spec = spec, .root_fd = -1, .proc_fd = -1, .sys_fd = -1 };
	int r = lsm_check_selinux("linux.mountLabel", spec->linux_.mount_label, err);

	if (r == 0)
		r = plan_propagation(&plan, err);

	plan.user_ns = spec->linux_.ns[OCI_NS_USER].wanted;
	plan.cgroup_ns = spec->linux_.ns[OCI_NS_CGROUP].wanted;
	plan.mounts = mem_new0_array(struct rootfs_mount, spec->mount_count + 1);
	for (size_t i = 0; i < spec->mount_count; i++)
		plan.mounts[i].fd = -1;
	if (r == 0)
		r = plan_root(&plan, root_fd, err);
	for (size_t i = 0; r == 0 && i < spec->mount_count; i++) {
		r = plan_mount(&plan, i, err);
		if (r < 0)
			error_wrap(err, r, "mounts[%zu] (%s)", i, spec->mounts[i].destination);
	}
	if (r == 0)
		r = plan_cgroups(&plan, cgroup, err);
	if (r < 0) {
		if (root_fd >= 0)
			plan.root_fd = -1;
		rootfs_plan_done(&plan);
		return r;
	}
	*ret = plan;
	return 0;
}

void rootfs_plan_done(struct rootfs_plan *plan)
{
	fd_close(plan->root_fd);
	fd_close(plan->proc_fd);
	fd_close(plan->sys_fd);
	plan->root_fd = plan->proc_fd = plan->sys_fd = -1;
	for (size_t i = 0; plan->mounts && i < plan->spec->mount_count; i++) {
		fd_close(plan->mounts[i].fd);
		free(plan->mounts[i].link);
		free(plan->mounts[i].label);
		mount_options_done(&plan->mounts[i].options);
	}
	free(plan->mounts);
	plan->mounts = NULL;
	for (size_t i = 0; i < plan->cgroup_count; i++) {
		fd_close(plan->cgroups[i].fd);
		free(plan->cgroups[i].name);
	}
	plan->cgroup_count = 0;
}
