#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "container/rootfs.h"
#include "kern/mount.h"

static const struct oci_device defaults[] = {
	{ 'c', "/dev/null", 1, 3, 0666, 0, 0 },    { 'c', "/dev/zero", 1, 5, 0666, 0, 0 },
	{ 'c', "/dev/full", 1, 7, 0666, 0, 0 },    { 'c', "/dev/random", 1, 8, 0666, 0, 0 },
	{ 'c', "/dev/urandom", 1, 9, 0666, 0, 0 }, { 'c', "/dev/tty", 5, 0, 0666, 0, 0 },
};

static mode_t type_bits(char type)
{
	return type == 'c' ? S_IFCHR : type == 'b' ? S_IFBLK : S_IFIFO;
}

static bool is_device(const struct stat *st, const struct oci_device *device)
{
	return (st->st_mode & S_IFMT) == type_bits(device->type) &&
	       (device->type == 'p' || st->st_rdev == makedev(device->major, device->minor));
}

static int clone_node(const struct oci_device *device, struct error *err)
{
	AUTO(fd_close) int node = mount_clone(AT_FDCWD, device->path, false);
	struct stat st;

	if (node < 0 || fstat(node, &st) < 0)
		return error_set(err, node < 0 ? node : -errno,
				 "%s: the host's, for a user namespace", device->path);
	if (!is_device(&st, device))
		return error_say(err, -EINVAL,
				 "%s: the host's is another device, and a user "
				 "namespace cannot make its own",
				 device->path);
	return TAKE_FD(node);
}

static bool has_number(const struct oci_device *device, char type, dev_t dev)
{
	return device->type == type && makedev(device->major, device->minor) == dev;
}

int rootfs_clone_device(const struct oci_spec *spec, char type, dev_t dev, struct error *err)
{
	for (size_t i = 0; i < spec->linux_.device_count; i++)
		if (has_number(&spec->linux_.devices[i], type, dev))
			return clone_node(&spec->linux_.devices[i], err);
	for (size_t i = 0; i < ARRAY_COUNT(defaults); i++)
		if (has_number(&defaults[i], type, dev))
			return clone_node(&defaults[i], err);
	return error_say(err, -EPERM, "device %c:%u:%u is not one of config.json", type, major(dev),
			 minor(dev));
}

/* A user namespace may not make device nodes: the host's is shown instead. */
static int bind_device(int root, const struct oci_device *device, struct error *err)
{
	AUTO(fd_close) int node = clone_node(device, err);
	AUTO(fd_close) int place = -1;
	int r;

	if (node < 0)
		return node;
	place = mount_create_in_root(root, device->path, MOUNT_PLACE_FILE, 0644);
	r = place < 0 ? place : mount_attach(node, place);
	return r < 0 ? error_set(err, r, "%s", device->path) : 0;
}

static int make_node(int root, const struct oci_device *device, struct error *err)
{
	const char *name;
	AUTO(fd_close) int dir = mount_open_parent_in_root(root, device->path, &name);
	struct stat st;

	if (dir < 0)
		return error_set(err, dir, "%s", device->path);
	if (mknodat(dir, name, type_bits(device->type) | device->mode,
		    makedev(device->major, device->minor)) < 0) {
		if (errno != EEXIST)
			return error_set(err, -errno, "%s", device->path);
		if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !is_device(&st, device))
			return error_say(err, -EEXIST,
					 "%s: the root file system has something else there",
					 device->path);
	}
	if ((device->uid || device->gid) &&
	    fchownat(dir, name, device->uid, device->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set(err, -errno, "%s: owner", device->path);
	return 0;
}

static int make_device(const struct rootfs_plan *plan, int root, const struct oci_device *device,
		       struct error *err)
{
	if (plan->user_ns && device->type != 'p')
		return bind_device(root, device, err);
	return make_node(root, device, err);
}

static bool in_spec(const struct oci_spec *spec, const char *path)
{
	for (size_t i = 0; i < spec->linux_.device_count; i++)
		if (strcmp(spec->linux_.devices[i].path, path) == 0)
			return true;
	return false;
}

static int make_links(int root, struct error *err)
{
	static const struct {
		const char *path;
		const char *target;
	} links[] = {
		{ "/dev/fd", "/proc/self/fd" },       { "/dev/stdin", "/proc/self/fd/0" },
		{ "/dev/stdout", "/proc/self/fd/1" }, { "/dev/stderr", "/proc/self/fd/2" },
		{ "/dev/core", "/proc/kcore" },
	};
	const char *name;
	AUTO(fd_close) int dir = mount_open_parent_in_root(root, "/dev/ptmx", &name);
	struct stat st;

	if (dir < 0)
		return error_set(err, dir, "/dev");
	for (size_t i = 0; i < ARRAY_COUNT(links); i++) {
		if (i + 1 == ARRAY_COUNT(links) && access(links[i].target, F_OK) < 0)
			continue;
		if (symlinkat(links[i].target, dir, links[i].path + strlen("/dev/")) < 0 &&
		    errno != EEXIST)
			return error_set(err, -errno, "%s", links[i].path);
	}
	/* The host's node would be the host's terminals. */
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISLNK(st.st_mode) &&
	    unlinkat(dir, name, 0) < 0)
		return error_set(err, -errno, "/dev/ptmx");
	if (symlinkat("pts/ptmx", dir, name) < 0 && errno != EEXIST)
		return error_set(err, -errno, "/dev/ptmx");
	return 0;
}

int rootfs_make_devices(const struct rootfs_plan *plan, int root, struct error *err)
{
	const struct oci_spec *spec = plan->spec;
	mode_t old = umask(0);
	int r = 0;

	/* A host's /dev has everything, and nothing may be made in it. */
	for (size_t i = 0; r == 0 && !plan->has_dev && i < ARRAY_COUNT(defaults); i++)
		if (!in_spec(spec, defaults[i].path))
			r = make_device(plan, root, &defaults[i], err);
	if (r == 0 && !plan->has_dev)
		r = make_links(root, err);
	for (size_t i = 0; r == 0 && i < spec->linux_.device_count; i++) {
		if (plan->has_dev && strncmp(spec->linux_.devices[i].path, "/dev/", 5) == 0)
			continue;
		r = make_device(plan, root, &spec->linux_.devices[i], err);
		if (r < 0)
			error_wrap(err, r, "linux.devices[%zu]", i);
	}
	umask(old);
	return r;
}
