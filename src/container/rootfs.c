#include "container/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "container/copy_up.h"
#include "container/rootfs_link.h"
#include "kern/mount.h"

/* ---- mounts ---- */

int rootfs_set_attributes(int mount_fd, const struct mount_options *options)
{
	int r = 0;

	if (options->set_all | options->clear_all)
		r = mount_change(mount_fd, "", true, options->set_all, options->clear_all, 0);
	if (r == 0 && (options->set | options->clear))
		r = mount_change(mount_fd, "", false, options->set, options->clear, 0);
	return r;
}

/* Whether `destination` is this folder of the root, "/proc" or "/sys". */
static bool is_top(const char *destination, const char *top)
{
	size_t size = strlen(top);

	destination += strspn(destination, "/");
	return strncmp(destination, top + 1, size - 1) == 0 &&
	       strspn(destination + size - 1, "/") == strlen(destination + size - 1);
}

static bool kernel_tree(const struct oci_mount *mount)
{
	return mount->type &&
	       (strcmp(mount->type, "proc") == 0 || strcmp(mount->type, "sysfs") == 0);
}

/*
 * The place of procfs or sysfs: a link on the way could be turned elsewhere by whoever shares the
 * root file system, and the masks would hide the wrong thing.
 */
static int plain_place(int root, const char *destination, struct error *err)
{
	int fd = mount_open_plain(root, destination, O_PATH | O_DIRECTORY);

	if (fd == -ENOENT) {
		fd_close(mount_create_in_root(root, destination, MOUNT_PLACE_DIR, 0755));
		fd = mount_open_plain(root, destination, O_PATH | O_DIRECTORY);
	}
	if (fd == -ELOOP || fd == -ENOTDIR)
		return error_say(
			err, fd,
			"destination \"%s\": must be a plain folder of the root file system, "
			"without symbolic links on the way",
			destination);
	return fd < 0 ? error_set(err, fd, "destination \"%s\"", destination) : fd;
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

/*
 * Nothing may cover the container's procfs: labels of processes and sysctls are written there, and
 * what is seen there is believed.  Except for the numbers that lxcfs and its like show instead, and
 * another whole procfs.
 */
static int check_procfs(const struct rootfs_plan *plan, int place, int mount_fd,
			const char *destination, struct error *err)
{
	static const char *const covered[] = {
		"/proc/cpuinfo",  "/proc/diskstats",
		"/proc/loadavg",  "/proc/meminfo",
		"/proc/net/dev",  "/proc/pressure",
		"/proc/slabinfo", "/proc/stat",
		"/proc/swaps",    "/proc/sys/kernel/ns_last_pid",
		"/proc/uptime",   "/proc/sys/crypto/fips_enabled",
	};
	struct statfs fs;
	struct stat st;

	if (!plan->proc_dev || fstat(place, &st) < 0 || st.st_dev != plan->proc_dev)
		return 0;
	for (size_t i = 0; i < ARRAY_COUNT(covered); i++)
		if (strcmp(destination, covered[i]) == 0)
			return 0;
	if (is_top(destination, "/proc") && fstatfs(mount_fd, &fs) == 0 &&
	    fs.f_type == PROC_SUPER_MAGIC)
		return 0;
	return error_say(err, -EPERM, "destination \"%s\": lies in /proc, which nothing may cover",
			 destination);
}

static int attach_at(const struct rootfs_plan *plan, int place, int mount_fd,
		     const char *destination, const struct mount_options *options,
		     struct error *err)
{
	int r = check_procfs(plan, place, mount_fd, destination, err);

	if (r < 0)
		return r;
	r = mount_attach(mount_fd, place);
	if (r == 0 && options && options->propagation)
		r = mount_change(mount_fd, "", options->propagation_all, 0, 0,
				 options->propagation);
	return r < 0 ? error_set(err, r, "attaching to \"%s\"", destination) : 0;
}

static int attach(const struct rootfs_plan *plan, int root, int mount_fd, const char *destination,
		  const struct mount_options *options, struct error *err)
{
	AUTO(fd_close)
	int place = place_for(root, destination, mount_fd, options && options->dest_nofollow, err);

	return place < 0 ? place : attach_at(plan, place, mount_fd, destination, options, err);
}

/* What is masked below these is looked up from the mount itself, wherever its place is moved to. */
static void remember(struct rootfs_plan *plan, const char *destination, int *mount_fd)
{
	struct stat st;

	if (is_top(destination, "/proc")) {
		fd_close(plan->proc_fd);
		plan->proc_fd = TAKE_FD(*mount_fd);
		plan->proc_dev = fstat(plan->proc_fd, &st) == 0 ? st.st_dev : 0;
	} else if (is_top(destination, "/sys")) {
		fd_close(plan->sys_fd);
		plan->sys_fd = TAKE_FD(*mount_fd);
	}
}

static int label_root(int mount_fd, const char *label, struct error *err)
{
	AUTO(fd_close) int fd = openat(mount_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsetxattr(fd, "security.selinux", label, strlen(label), 0) < 0)
		return error_set(err, -errno, "linux.mountLabel \"%s\"", label);
	return 0;
}

static int make_new(struct rootfs_plan *plan, const struct rootfs_mount *mount, int root,
		    struct error *err)
{
	AUTO(fd_close) int place = -1;
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
	if (mount->root_label)
		r = label_root(fd, mount->root_label, err);
	if (r == 0 && mount->options.copy_up)
		r = copy_up(root, mount->spec->destination, fd, err);
	if (r == 0 && mount->options.copy_up) {
		r = rootfs_set_attributes(fd, &mount->options);
		if (r < 0)
			error_set(err, r, "attributes");
	}
	if (r < 0)
		return r;
	place = kernel_tree(mount->spec) ? plain_place(root, mount->spec->destination, err)
					 : place_for(root, mount->spec->destination, fd,
						     mount->options.dest_nofollow, err);
	if (place < 0)
		return place;
	r = attach_at(plan, place, fd, mount->spec->destination, &mount->options, err);
	if (r == 0)
		remember(plan, mount->spec->destination, &fd);
	return r;
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
	r = attach(plan, root, tmpfs, mount->spec->destination, NULL, err);
	if (r < 0)
		return r;
	dir = openat(tmpfs, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; dir >= 0 && i < plan->cgroup_count; i++) {
		const struct rootfs_cgroup *one = &plan->cgroups[i];
		AUTO(free) char *list = mem_strdup(one->name);
		char *save = NULL;

		r = attach(plan, dir, one->fd, one->name[0] ? one->name : "unified",
			   &mount->options, err);
		if (r == 0)
			r = rootfs_set_attributes(one->fd, &mount->options);
		if (r < 0)
			return r;
		if (!strchr(list, ','))
			continue;
		for (char *c = strtok_r(list, ",", &save); c; c = strtok_r(NULL, ",", &save))
			if (symlinkat(one->name, dir, c) < 0 && errno != EEXIST)
				return error_set(err, -errno, "link to a control group");
	}
	r = rootfs_set_attributes(tmpfs, &mount->options);
	return r < 0 ? error_set(err, r, "tmpfs for control groups") : 0;
}

static int make_cgroup(const struct rootfs_plan *plan, const struct rootfs_mount *mount, int root,
		       struct error *err)
{
	const struct rootfs_cgroup *first = &plan->cgroups[0];
	int r;

	if (plan->cgroup_count != 1 || first->name[0])
		return make_cgroup_v1(plan, mount, root, err);
	r = rootfs_set_attributes(first->fd, &mount->options);
	if (r < 0)
		return error_set(err, r, "attributes");
	return attach(plan, root, first->fd, mount->spec->destination, &mount->options, err);
}

static int remount(const struct rootfs_mount *mount, int root, struct error *err)
{
	AUTO(fd_close) int fd = mount_open_in_root(root, mount->spec->destination, O_PATH);
	int r = fd < 0 ? fd : rootfs_set_attributes(fd, &mount->options);
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

static int build_one(struct rootfs_plan *plan, struct rootfs_mount *mount, int root,
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
		return make_new(plan, mount, root, err);
	r = rootfs_set_attributes(mount->fd, &mount->options);
	if (r < 0)
		return error_set(err, r, "options of the bind mount");
	r = attach(plan, root, mount->fd, mount->spec->destination, &mount->options, err);
	if (r == 0)
		remember(plan, mount->spec->destination, &mount->fd);
	return r;
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

/* From where a path of the specification is looked up, and what is left of it. */
static int base_of(const struct rootfs_plan *plan, int root, const char **path)
{
	if (plan->proc_fd >= 0 && strncmp(*path, "/proc/", 6) == 0) {
		*path += 5;
		return plan->proc_fd;
	}
	if (plan->sys_fd >= 0 && strncmp(*path, "/sys/", 5) == 0) {
		*path += 4;
		return plan->sys_fd;
	}
	return root;
}

/* The null device itself, and not what somebody has put in its place. */
static int open_null(struct error *err)
{
	AUTO(fd_close) int fd = open("/dev/null", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, -errno, "linux.maskedPaths: /dev/null");
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
		return error_say(
			err, -ENODEV,
			"linux.maskedPaths: this system's /dev/null is not the null device");
	return TAKE_FD(fd);
}

static int mask(const struct rootfs_plan *plan, int root, int null_fd, const char *path,
		struct error *err)
{
	const char *below = path;
	int base = base_of(plan, root, &below);
	AUTO(fd_close) int place = mount_open_in_root(base, below, O_PATH);
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
		cover = mount_clone(null_fd, "", false);
	}
	r = cover < 0 ? cover : mount_attach(cover, place);
	return r < 0 ? error_set(err, r, "linux.maskedPaths: %s", path) : 0;
}

static int protect(const struct rootfs_plan *plan, int root, const char *path, struct error *err)
{
	const char *below = path;
	int base = base_of(plan, root, &below);
	AUTO(fd_close) int place = mount_open_in_root(base, below, O_PATH);
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
	oci_strings masked = spec->linux_.masked_paths;
	AUTO(fd_close) int null_fd = -1;
	int r = 0;

	for (oci_strings path = spec->linux_.readonly_paths; r == 0 && path && *path; path++)
		r = protect(plan, root, *path, err);
	if (r == 0 && masked && *masked)
		r = null_fd = open_null(err);
	for (oci_strings path = masked; r >= 0 && path && *path; path++)
		r = mask(plan, root, null_fd, *path, err);
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
	AUTO(fd_close) int dir = -1;
	AUTO(fd_close) int place = -1;
	const char *name;
	struct stat st;
	int r;

	if (root < 0)
		return error_set(err, -errno, "/");
	if (tty < 0)
		return error_set(err, tty, "/dev/console");
	dir = mount_open_parent_in_root(root, "/dev/console", &name);
	if (dir < 0)
		return error_set(err, dir, "/dev/console");
	fd_close(openat(dir, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600));
	place = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (place < 0 || fstat(place, &st) < 0)
		return error_set(err, -errno, "/dev/console");
	/* A link could lead to what is masked. */
	if (S_ISLNK(st.st_mode) || S_ISDIR(st.st_mode))
		return error_say(err, -ELOOP,
				 "/dev/console: the root file system has a link or a folder there");
	r = mount_attach(tty, place);
	return r < 0 ? error_set(err, r, "/dev/console") : 0;
}
