#include "container/external.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "codec/criu_rpc.h"
#include "container/mount_options.h"
#include "kern/mount.h"

enum { MOUNTINFO_MAX = 16 << 20, PTS_FIRST = 136, PTS_LAST = 143 };

struct finder {
	const struct oci_spec *spec;
	const char *bundle;
	struct mountinfo info;
	struct external_mount *roles; /* one for each of info.list */
	int root;                     /* of the container */
};

static void finder_done_autop(struct finder *finder)
{
	mountinfo_done(&finder->info);
	free(finder->roles);
	fd_close(finder->root);
}

/* ---- which mount is which ---- */

/* Number of the mount whose top `fd` is, or -1. */
static int mount_of(const struct finder *finder, int fd, struct statx *ret)
{
	const struct mountinfo_entry *entry;

	if (fd < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, ret) < 0 ||
	    !(ret->stx_mask & STATX_MNT_ID) || !(ret->stx_attributes & STATX_ATTR_MOUNT_ROOT))
		return -1;
	entry = mountinfo_find(&finder->info, (int) ret->stx_mnt_id);
	return entry ? (int) (entry - finder->info.list) : -1;
}

static int mount_at(const struct finder *finder, const char *path, struct statx *ret)
{
	AUTO(fd_close) int fd = mount_open_in_root(finder->root, path, O_PATH);

	return mount_of(finder, fd, ret);
}

static void know_config(struct finder *finder)
{
	for (size_t i = 0; i < finder->spec->mount_count; i++) {
		const struct oci_mount *mount = &finder->spec->mounts[i];
		struct mount_options options;
		struct statx st;
		int n = mount_at(finder, mount->destination, &st);
		struct external_mount *role = n < 0 ? NULL : &finder->roles[n];
		bool bind;

		mount_options_parse(mount->options, &options);
		bind = options.bind || (mount->type && strcmp(mount->type, "bind") == 0);
		if (role && !options.remount && role->role != EXTERNAL_ROOT) {
			role->role = bind ? EXTERNAL_BIND : EXTERNAL_ITS_OWN;
			role->spec = bind ? mount : NULL;
		}
		mount_options_done(&options);
	}
	for (oci_strings path = finder->spec->linux_.masked_paths; path && *path; path++) {
		struct statx st;
		int n = mount_at(finder, *path, &st);

		if (n >= 0 && S_ISDIR(st.stx_mode) && finder->roles[n].role == EXTERNAL_UNKNOWN)
			finder->roles[n].role = EXTERNAL_ITS_OWN;
	}
}

/* Control groups and single devices are known by what they are. */
static void know_kinds(struct finder *finder)
{
	for (size_t i = 0; i < finder->info.count; i++) {
		const struct mountinfo_entry *entry = &finder->info.list[i];
		struct external_mount *role = &finder->roles[i];
		struct statx st;

		if (role->role == EXTERNAL_BIND || role->role == EXTERNAL_ROOT)
			continue;
		if (strcmp(entry->type, "cgroup") == 0 || strcmp(entry->type, "cgroup2") == 0) {
			role->role = EXTERNAL_CGROUP;
			continue;
		}
		if (role->role != EXTERNAL_UNKNOWN ||
		    mount_at(finder, entry->place, &st) != (int) i)
			continue;
		if (!S_ISCHR(st.stx_mode) && !S_ISBLK(st.stx_mode))
			continue;
		/* A terminal of the container's own. */
		if (S_ISCHR(st.stx_mode) && st.stx_rdev_major >= PTS_FIRST &&
		    st.stx_rdev_major <= PTS_LAST)
			continue;
		role->role = EXTERNAL_DEVICE;
		snprintf(role->device, sizeof(role->device), "%c:%u:%u",
			 S_ISCHR(st.stx_mode) ? 'c' : 'b', st.stx_rdev_major, st.stx_rdev_minor);
	}
}

int external_above(const struct mountinfo *info, const struct external_mount *roles, size_t n,
		   const char **ret_below)
{
	int id = info->list[n].parent;

	/* Every step goes up; a list that goes in circles ends all the same. */
	for (size_t steps = 0; steps < info->count; steps++) {
		const struct mountinfo_entry *entry = mountinfo_find(info, id);

		if (!entry)
			return -1;
		if (roles[entry - info->list].role != EXTERNAL_UNKNOWN) {
			*ret_below = mountinfo_below(info->list[n].place, entry->place);
			return *ret_below ? (int) (entry - info->list) : -1;
		}
		id = entry->parent;
	}
	return -1;
}

/* ---- what the host has there ---- */

static char *host_path(const struct finder *finder, const char *path)
{
	return path[0] == '/' ? mem_strdup(path) : mem_printf("%s/%s", finder->bundle, path);
}

/*
 * Whether a mount that nobody asked for by name came along with the one above it: then the host has
 * the same file system there.  What the container has mounted itself is not.
 */
static bool came_along(const struct finder *finder, const struct external_mount *above,
		       const char *below, dev_t dev)
{
	const char *source =
		above->role == EXTERNAL_ROOT ? finder->spec->root_path : above->spec->source;
	AUTO(free) char *path = host_path(finder, source);
	AUTO(fd_close) int base = open(path, O_PATH | O_CLOEXEC);
	AUTO(fd_close) int fd = base < 0 ? -1 : mount_open_in_root(base, below, O_PATH);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == dev;
}

/* ---- finding ---- */

enum { NAME_SIZE = 32 };

static void name_it(size_t n, char ret[NAME_SIZE])
{
	snprintf(ret, NAME_SIZE, "brume-%zu", n);
}

static void add(const struct mountinfo_entry *entry, enum oci_external_kind kind, const char *of,
		const char *below, struct oci_checkpoint *checkpoint, struct strbuf *request)
{
	char name[NAME_SIZE];

	name_it(checkpoint->external_count, name);
	oci_checkpoint_add(checkpoint, kind, of, below);
	criu_put_mount(request, entry->place, name);
}

static void add_unknown(const struct finder *finder, size_t n, struct oci_checkpoint *checkpoint,
			struct strbuf *request)
{
	const struct mountinfo_entry *entry = &finder->info.list[n];
	const char *below = NULL;
	int above = external_above(&finder->info, finder->roles, n, &below);
	const struct external_mount *role = above < 0 ? NULL : &finder->roles[above];

	if (!role || (role->role != EXTERNAL_ROOT && role->role != EXTERNAL_BIND))
		return;
	/* A part of the root shown again (a read-only path) is carried with the root. */
	if (role->role == EXTERNAL_ROOT && entry->dev == finder->info.list[above].dev)
		return;
	if (!came_along(finder, role, below, entry->dev))
		return;
	if (role->role == EXTERNAL_ROOT)
		add(entry, OCI_EXTERNAL_ROOT, "", below, checkpoint, request);
	else
		add(entry, OCI_EXTERNAL_MOUNT, role->spec->destination, below, checkpoint, request);
}

static void add_all(const struct finder *finder, struct oci_checkpoint *checkpoint,
		    struct strbuf *request)
{
	for (size_t i = 0; i < finder->info.count; i++) {
		const struct mountinfo_entry *entry = &finder->info.list[i];
		const struct external_mount *role = &finder->roles[i];
		const char *name = strrchr(entry->place, '/');

		switch (role->role) {
		case EXTERNAL_BIND:
			add(entry, OCI_EXTERNAL_MOUNT, role->spec->destination, "", checkpoint,
			    request);
			break;
		case EXTERNAL_CGROUP:
			add(entry, OCI_EXTERNAL_CGROUP,
			    strcmp(entry->type, "cgroup2") == 0 || !name ? "" : name + 1, "",
			    checkpoint, request);
			break;
		case EXTERNAL_DEVICE:
			add(entry, OCI_EXTERNAL_DEVICE, role->device, "", checkpoint, request);
			break;
		case EXTERNAL_UNKNOWN:
			add_unknown(finder, i, checkpoint, request);
			break;
		case EXTERNAL_ROOT:
		case EXTERNAL_ITS_OWN:
			break;
		}
	}
}

int external_find(const struct oci_spec *spec, const char *bundle, pid_t pid,
		  struct oci_checkpoint *checkpoint, struct strbuf *request, struct error *err)
{
	AUTO(free) char *list = mem_printf("/proc/%d/mountinfo", (int) pid);
	AUTO(free) char *root = mem_printf("/proc/%d/root", (int) pid);
	__attribute__((cleanup(finder_done_autop))) struct finder finder = {
		.spec = spec,
		.bundle = bundle,
		.root = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC),
	};
	AUTO(free) char *text = NULL;
	struct statx st;
	int r, top;

	if (finder.root < 0)
		return error_set(err, -errno, "the root of process %d", (int) pid);
	r = file_read(AT_FDCWD, list, MOUNTINFO_MAX, &text, NULL);
	if (r == 0)
		r = mountinfo_parse(text, &finder.info);
	if (r < 0)
		return error_set(err, r, "the mounts of process %d", (int) pid);
	if (finder.info.count > OCI_EXTERNALS_MAX)
		return error_say(err, -EFBIG, "%zu mounts are too many, at most %d",
				 finder.info.count, OCI_EXTERNALS_MAX);
	finder.roles = mem_new0_array(struct external_mount, finder.info.count + 1);
	top = mount_of(&finder, finder.root, &st);
	if (top < 0)
		return error_say(err, -EXDEV, "the root of process %d is not a mount", (int) pid);
	finder.roles[top].role = EXTERNAL_ROOT;
	know_config(&finder);
	know_kinds(&finder);
	add_all(&finder, checkpoint, request);
	return 0;
}

/* ---- providing ---- */

/* A place below the folder's tmpfs for a mount, file or folder as it is. */
static int attach(int folder, const char *name, int mount_fd)
{
	AUTO(fd_close) int place = -1;
	struct stat st;

	if (fstat(mount_fd, &st) < 0)
		return -errno;
	place = mount_create_in_root(
		folder, name, S_ISDIR(st.st_mode) ? MOUNT_PLACE_DIR : MOUNT_PLACE_FILE, 0755);
	return place < 0 ? place : mount_attach(mount_fd, place);
}

static const struct rootfs_mount *bind_of(const struct rootfs_plan *plan, const char *destination)
{
	const struct rootfs_mount *found = NULL;

	/* Of two at one place the last one is seen. */
	for (size_t i = 0; i < plan->spec->mount_count; i++)
		if (plan->mounts[i].fd >= 0 &&
		    strcmp(plan->spec->mounts[i].destination, destination) == 0)
			found = &plan->mounts[i];
	return found;
}

static int open_external(const struct rootfs_plan *plan, const struct oci_external *one,
			 struct error *err)
{
	const struct rootfs_mount *mount;
	char type;
	dev_t dev;

	switch (one->kind) {
	case OCI_EXTERNAL_ROOT:
		return dup(plan->root_fd);
	case OCI_EXTERNAL_MOUNT:
		mount = bind_of(plan, one->of);
		if (mount)
			return dup(mount->fd);
		return error_say(err, -ENOENT,
				 "mounts: the checkpoint has a bind mount at \"%.128s\", and "
				 "config.json has none",
				 one->of);
	case OCI_EXTERNAL_CGROUP:
		for (size_t i = 0; i < plan->cgroup_count; i++)
			if (strcmp(plan->cgroups[i].name, one->of) == 0)
				return dup(plan->cgroups[i].fd);
		return error_say(err, -ENOENT,
				 "the checkpoint shows a control group \"%.64s\", which this "
				 "machine has not",
				 one->of);
	case OCI_EXTERNAL_DEVICE:
		if (oci_external_device(one->of, &type, &dev) == 0)
			return rootfs_clone_device(plan->spec, type, dev, err);
		break;
	case OCI_EXTERNAL_COUNT:
		break;
	}
	return error_say(err, -EINVAL, "\"%.64s\" is not known", one->of);
}

/* With what is mounted below it: what is not attached cannot be cloned from. */
static int attach_whole(const struct rootfs_plan *plan, const struct oci_external *one, int folder,
			const char *name, struct error *err)
{
	AUTO(free) char *base = mem_printf("whole-%s", name);
	AUTO(fd_close) int fd = open_external(plan, one, err);
	int r = fd < 0 ? fd : attach(folder, base, fd);

	return fd >= 0 && r < 0 ? error_set(err, r, "%.128s", one->of) : r;
}

/*
 * A single mount under the name that CRIU is told: in a user namespace it could not leave away what
 * is mounted below.
 */
static int provide(const struct rootfs_plan *plan, const struct oci_external *one, int folder,
		   const char *name, struct error *err)
{
	bool whole = one->kind == OCI_EXTERNAL_MOUNT || one->kind == OCI_EXTERNAL_ROOT;
	AUTO(fd_close) int fd = open_external(plan, one, err);
	AUTO(fd_close) int inner = -1;
	AUTO(fd_close) int part = -1;
	int r;

	if (fd < 0)
		return fd;
	if (!whole) {
		r = attach(folder, name, fd);
	} else {
		inner = one->below[0] ? mount_open_in_root(fd, one->below, O_PATH) : dup(fd);
		part = inner < 0 ? inner : mount_clone(inner, "", false);
		r = part < 0 ? part : attach(folder, name, part);
	}
	return r < 0 ? error_set(err, r, "%.128s%s%.128s", one->of, one->below[0] ? ": " : "",
				 one->below)
		     : 0;
}

static int provide_all(const struct rootfs_plan *plan, const struct oci_checkpoint *checkpoint,
		       int folder, struct error *err)
{
	char name[NAME_SIZE];
	int r = 0;

	for (size_t i = 0; r == 0 && i < checkpoint->external_count; i++) {
		const struct oci_external *one = &checkpoint->externals[i];

		name_it(i, name);
		if (one->kind == OCI_EXTERNAL_MOUNT && !one->below[0])
			r = attach_whole(plan, one, folder, name, err);
	}
	for (size_t i = 0; r == 0 && i < checkpoint->external_count; i++) {
		name_it(i, name);
		r = provide(plan, &checkpoint->externals[i], folder, name, err);
	}
	return r;
}

/* Its top alone, too. */
static int provide_root(const struct rootfs_plan *plan, int folder, struct error *err)
{
	AUTO(fd_close) int top = -1;
	int r = attach(folder, "whole", plan->root_fd);

	top = r < 0 ? r : mount_clone(plan->root_fd, "", false);
	r = top < 0 ? top : attach(folder, "root", top);
	return r < 0 ? error_set(err, r, "the root file system") : 0;
}

/* ---- places in the root ---- */

/* The last mount before the n-th in which its place lies; -1: the root. */
static int place_in(const struct oci_spec *spec, size_t n, const char **ret_below)
{
	int found = -1;

	*ret_below = spec->mounts[n].destination;
	for (size_t i = 0; i < n; i++) {
		const char *below =
			mountinfo_below(spec->mounts[n].destination, spec->mounts[i].destination);

		if (below && below[0]) {
			found = (int) i;
			*ret_below = below;
		}
	}
	return found;
}

/*
 * The root may be a fresh one, in which no mount has been before.  What lies in a file system that
 * CRIU fills is there with the rest of it.
 */
static int make_places(const struct rootfs_plan *plan, struct error *err)
{
	for (size_t i = 0; i < plan->spec->mount_count; i++) {
		const struct rootfs_mount *mount = &plan->mounts[i];
		enum mount_place kind = MOUNT_PLACE_DIR;
		AUTO(fd_close) int place = -1;
		const char *below;
		int in = place_in(plan->spec, i, &below);
		int base = in < 0 ? plan->root_fd : plan->mounts[in].fd;
		struct stat st;

		if (base < 0 || mount->options.remount || mount->link)
			continue;
		if (mount->fd >= 0 && fstat(mount->fd, &st) == 0 && !S_ISDIR(st.st_mode))
			kind = MOUNT_PLACE_FILE;
		place = mount_create_in_root(base, below, kind,
					     kind == MOUNT_PLACE_DIR ? 0755 : 0644);
		if (place < 0 && place != -EROFS)
			return error_set(err, place, "mounts[%zu] (%s)", i,
					 mount->spec->destination);
	}
	return 0;
}

int external_provide(const struct rootfs_plan *plan, const struct oci_checkpoint *checkpoint,
		     int images, const char *folder, struct error *err)
{
	static const char *const data[] = { "mode=711", NULL };
	AUTO(fd_close) int tmpfs = mount_make("tmpfs", "tmpfs", data, 0, NULL, 0);
	AUTO(fd_close) int place = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (tmpfs < 0 || place < 0)
		return error_set(err, tmpfs < 0 ? tmpfs : -errno, "%s", folder);
	r = mount_attach(tmpfs, place);
	if (r == 0 && images >= 0)
		r = attach(tmpfs, "images", images);
	if (r < 0)
		return error_set(err, r, "%s", folder);
	r = provide_root(plan, tmpfs, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < plan->spec->mount_count; i++) {
		if (plan->mounts[i].fd < 0)
			continue;
		r = rootfs_set_attributes(plan->mounts[i].fd, &plan->mounts[i].options);
		if (r < 0)
			return error_set(err, r, "mounts[%zu] (%s): options", i,
					 plan->spec->mounts[i].destination);
	}
	r = provide_all(plan, checkpoint, tmpfs, err);
	return r < 0 ? r : make_places(plan, err);
}

void external_request(const struct oci_checkpoint *checkpoint, const char *folder,
		      struct strbuf *request)
{
	AUTO(free) char *root = mem_printf("%s/root", folder);

	criu_put_text(request, CRIU_OPT_ROOT, root);
	for (size_t i = 0; i < checkpoint->external_count; i++) {
		AUTO(free) char *path = NULL;
		char name[NAME_SIZE];

		name_it(i, name);
		path = mem_printf("%s/%s", folder, name);
		criu_put_mount(request, name, path);
	}
}
