#include "container/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "container/copy_up.h"
#include "container/rootfs_link.h"
#include "kern/mount.h"

/* ---- mounts ---- */

/* What is written to the mount itself, after it is attached or while it is still detached. */
static int set_attributes(int fd, const struct mount_options *options)
{
	int r = 0;

	if (options->set_all | options->clear_all)
		r = mount_change(fd, "", true, options->set_all, options->clear_all, 0);
	if (r == 0 && (options->set | options->clear))
		r = mount_change(fd, "", false, options->set, options->clear, 0);
	return r;
}

static int place_for(int root, const char *destination, int mount_fd, bool nofollow,
		     struct error *err)
{
	enum mount_place place = MOUNT_PLACE_DIR;
	struct stat st;
	int fd;

	if (fstat(mount_fd, &st) == 0 && !S_ISDIR(st.st_mode))
		place = MOUNT_PLACE_FILE;
	if (nofollow)
		return rootfs_place_nofollow(root, destination, place == MOUNT_PLACE_DIR, err);
	fd = mount_create_in_root(root, destination, place, place == MOUNT_PLACE_DIR ? 0755 : 0644);
	return fd < 0 ? error_set(err, fd, "destination \"%s\"", destination) : fd;
}

static int attach(int root, int mount_fd, const char *destination,
		  const struct mount_options *options, struct error *err)
{
	AUTO(fd_close)
	int place = place_for(root, destination, mount_fd, options && options->dest_nofollow, err);
	int r;

	if (place < 0)
		return place;
	r = mount_attach(mount_fd, place);
	if (r == 0 && options && options->propagation)
		r = mount_change(mount_fd, "", options->propagation_all, 0, 0,
				 options->propagation);
	return r < 0 ? error_set(err, r, "attaching to \"%s\"", destination) : 0;
}

static int make_new(const struct rootfs_mount *mount, int root, struct error *err)
{
	const char *type = mount->spec->type;
	const char *source = mount->spec->source ? mount->spec->source : type;
	AUTO(fd_close) int fd = -1;
	uint64_t attributes = mount->options.set | mount->options.set_all;
	char why[200];
	int r = 0;

	/* What is copied must be written first. */
	if (mount->options.copy_up)
		attributes &= ~(uint64_t) MOUNT_ATTR_RDONLY;
	fd = mount_make(type, source, mount->options.data, attributes, why, sizeof(why));
	if (fd < 0 && why[0])
		return error_say(err, fd, "type \"%s\": %s", type, why);
	if (fd < 0)
		return error_set(err, fd, "type \"%s\"", type);
	if (mount->options.copy_up)
		r = copy_up(root, mount->spec->destination, fd, err);
	if (r == 0 && mount->options.copy_up) {
		r = set_attributes(fd, &mount->options);
		if (r < 0)
			error_set(err, r, "attributes");
	}
	return r < 0 ? r : attach(root, fd, mount->spec->destination, &mount->options, err);
}

/* Version 1: a small tmpfs with one folder for each hierarchy, and links for shared ones. */
static int make_cgroup_v1(const struct rootfs_plan *plan, const struct rootfs_mount *mount,
			  int root, struct error *err)
{
	static const char *const data[] = { "mode=755", "size=64k", NULL };
	AUTO(fd_close)
	int tmpfs = mount_make("tmpfs", "tmpfs", data,
			       mount->options.set & ~(uint64_t) MOUNT_ATTR_RDONLY, NULL, 0);
	AUTO(fd_close) int dir = -1;
	int r;

	if (tmpfs < 0)
		return error_set(err, tmpfs, "tmpfs for control groups");
	r = attach(root, tmpfs, mount->spec->destination, NULL, err);
	if (r < 0)
		return r;
	dir = openat(tmpfs, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; dir >= 0 && i < plan->cgroup_count; i++) {
		const struct rootfs_cgroup *one = &plan->cgroups[i];
		AUTO(free) char *list = mem_strdup(one->name);
		char *save = NULL;

		r = attach(dir, one->fd, one->name[0] ? one->name : "unified", &mount->options,
			   err);
		if (r == 0)
			r = set_attributes(one->fd, &mount->options);
		if (r < 0)
			return r;
		if (!strchr(list, ','))
			continue;
		for (char *c = strtok_r(list, ",", &save); c; c = strtok_r(NULL, ",", &save))
			if (symlinkat(one->name, dir, c) < 0 && errno != EEXIST)
				return error_set(err, -errno, "link to a control group");
	}
	r = set_attributes(tmpfs, &mount->options);
	return r < 0 ? error_set(err, r, "tmpfs for control groups") : 0;
}

static int make_cgroup(const struct rootfs_plan *plan, const struct rootfs_mount *mount, int root,
		       struct error *err)
{
	const struct rootfs_cgroup *first = &plan->cgroups[0];
	int r;

	if (plan->cgroup_count != 1 || first->name[0])
		return make_cgroup_v1(plan, mount, root, err);
	r = set_attributes(first->fd, &mount->options);
	if (r < 0)
		return error_set(err, r, "attributes");
	return attach(root, first->fd, mount->spec->destination, &mount->options, err);
}

static int remount(const struct rootfs_mount *mount, int root, struct error *err)
{
	AUTO(fd_close) int fd = mount_open_in_root(root, mount->spec->destination, O_PATH);
	int r = fd < 0 ? fd : set_attributes(fd, &mount->options);
	char why[200];

	if (r == 0 && mount->options.data[0] && !mount->options.bind) {
		r = mount_reconfigure(fd, mount->options.data, why, sizeof(why));
		if (r < 0 && why[0])
			return error_say(err, r, "remount: %s", why);
	}
	if (r == 0 && mount->options.propagation)
		r = mount_change(fd, "", mount->options.propagation_all, 0, 0,
				 mount->options.propagation);
	return r < 0 ? error_set(err, r, "remount") : 0;
}

static int build_one(const struct rootfs_plan *plan, const struct rootfs_mount *mount, int root,
		     struct error *err)
{
	int r;

	if (mount->options.remount)
		return remount(mount, root, err);
	if (mount->cgroup)
		return make_cgroup(plan, mount, root, err);
	if (mount->link)
		return rootfs_make_link(root, mount->spec->destination, mount->link, err);
	if (!mount->options.bind)
		return make_new(mount, root, err);
	r = set_attributes(mount->fd, &mount->options);
	if (r < 0)
		return error_set(err, r, "options of the bind mount");
	return attach(root, mount->fd, mount->spec->destination, &mount->options, err);
}

/* Attaches the root over "/", which is where pivot_root() and chroot() find it. */
static int attach_root(const struct rootfs_plan *plan, struct error *err)
{
	AUTO(fd_close) int top = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (top < 0)
		return error_set(err, -errno, "/");
	r = mount_attach(plan->root_fd, top);
	return r < 0 ? error_set(err, r, "attaching the root file system") : 0;
}

int rootfs_build(struct rootfs_plan *plan, int *ret_root, struct error *err)
{
	AUTO(fd_close) int root = -1;
	AUTO(fd_close) int cwd = -1;
	int r;

	if (plan->root_fd >= 0) {
		/* Whatever we do here must not reach the namespace we came from. */
		r = mount_change(AT_FDCWD, "/", true, 0, 0, MS_SLAVE);
		if (r < 0)
			return error_set(err, r, "leaving the host's mount propagation");
		r = attach_root(plan, err);
		if (r < 0)
			return r;
		root = openat(plan->root_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	} else {
		root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	if (root < 0)
		return error_set(err, -errno, "the root file system");
	for (size_t i = 0; i < plan->spec->mount_count; i++) {
		r = build_one(plan, &plan->mounts[i], root, err);
		if (r < 0)
			return error_wrap(err, r, "mounts[%zu] (%s)", i,
					  plan->mounts[i].spec->destination);
	}
	cwd = mount_create_in_root(root, plan->spec->process->cwd, MOUNT_PLACE_DIR, 0755);
	if (cwd < 0 && cwd != -EROFS)
		return error_set(err, cwd, "process.cwd \"%s\"", plan->spec->process->cwd);
	*ret_root = TAKE_FD(root);
	return 0;
}

/* ---- what must not be seen or changed ---- */

static int mask(int root, const char *path, struct error *err)
{
	AUTO(fd_close) int place = mount_open_in_root(root, path, O_PATH);
	AUTO(fd_close) int cover = -1;
	struct stat st;
	int r;

	if (place == -ENOENT || place == -ENOTDIR || place == -EACCES)
		return 0;
	if (place < 0 || fstat(place, &st) < 0)
		return error_set(err, place < 0 ? place : -errno, "linux.maskedPaths: %s", path);
	if (S_ISDIR(st.st_mode)) {
		static const char *const data[] = { "nr_blocks=1", "nr_inodes=1", NULL };

		cover = mount_make("tmpfs", "tmpfs", data,
				   MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
					   MOUNT_ATTR_NOEXEC,
				   NULL, 0);
	} else {
		/* The host's: the container's may be anything. */
		cover = mount_clone(AT_FDCWD, "/dev/null", false);
	}
	r = cover < 0 ? cover : mount_attach(cover, place);
	return r < 0 ? error_set(err, r, "linux.maskedPaths: %s", path) : 0;
}

static int protect(int root, const char *path, struct error *err)
{
	AUTO(fd_close) int place = mount_open_in_root(root, path, O_PATH);
	AUTO(fd_close) int copy = -1;
	int r;

	if (place == -ENOENT || place == -ENOTDIR || place == -EACCES)
		return 0;
	if (place < 0)
		return error_set(err, place, "linux.readonlyPaths: %s", path);
	copy = mount_clone(place, "", true);
	r = copy < 0 ? copy : mount_change(copy, "", true, MOUNT_ATTR_RDONLY, 0, 0);
	if (r == 0)
		r = mount_attach(copy, place);
	return r < 0 ? error_set(err, r, "linux.readonlyPaths: %s", path) : 0;
}

static int set_root_propagation(const struct oci_spec *spec, struct error *err)
{
	uint64_t propagation = MS_SLAVE;
	bool all = false;
	int r;

	if (!spec->linux_.rootfs_propagation || !spec->linux_.rootfs_propagation[0])
		return 0;
	mount_options_propagation(spec->linux_.rootfs_propagation, &propagation, &all);
	r = mount_change(AT_FDCWD, "/", all, 0, 0, propagation);
	return r < 0 ? error_set(err, r, "linux.rootfsPropagation") : 0;
}

int rootfs_enter(const struct rootfs_plan *plan, int root, struct error *err)
{
	const struct oci_spec *spec = plan->spec;
	int r = 0;

	for (oci_strings path = spec->linux_.readonly_paths; r == 0 && path && *path; path++)
		r = protect(root, *path, err);
	for (oci_strings path = spec->linux_.masked_paths; r == 0 && path && *path; path++)
		r = mask(root, *path, err);
	if (r < 0 || plan->root_fd < 0)
		return r;
	r = plan->no_pivot ? mount_chroot(root) : mount_pivot(root);
	if (r < 0)
		return error_set(err, r, plan->no_pivot ? "chroot" : "pivot_root");
	r = set_root_propagation(spec, err);
	if (r == 0 && spec->root_readonly) {
		r = mount_change(AT_FDCWD, "/", false, MOUNT_ATTR_RDONLY, 0, 0);
		if (r < 0)
			error_set(err, r, "root.readonly");
	}
	return r;
}

int rootfs_bind_console(int tty_fd, struct error *err)
{
	AUTO(fd_close) int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	AUTO(fd_close) int tty = mount_clone(tty_fd, "", false);

	if (root < 0)
		return error_set(err, -errno, "/");
	if (tty < 0)
		return error_set(err, tty, "/dev/console");
	return attach(root, tty, "/dev/console", NULL, err);
}
