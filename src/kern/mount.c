#include "kern/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/mem.h"

enum { LINKS_MAX = 40 };

int mount_clone(int dir_fd, const char *path, bool recursive)
{
	unsigned int flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
	int fd;

	if (recursive)
		flags |= AT_RECURSIVE;
	if (!path[0])
		flags |= AT_EMPTY_PATH;
	fd = open_tree(dir_fd, path, flags);
	return fd < 0 ? -errno : fd;
}

/* The last message of the file system context: "e overlay: ...". */
static void read_why(int fs_fd, char *ret_why, size_t why_size)
{
	char text[256];
	ssize_t n;

	if (!ret_why || why_size == 0)
		return;
	ret_why[0] = '\0';
	while ((n = read(fs_fd, text, sizeof(text) - 1)) > 0) {
		text[n] = '\0';
		text[strcspn(text, "\n")] = '\0';
		snprintf(ret_why, why_size, "%s", n > 2 && text[1] == ' ' ? text + 2 : text);
	}
}

static int set_option(int fs_fd, const char *option)
{
	const char *equals = strchr(option, '=');
	AUTO(free) char *key = NULL;
	int r;

	if (!equals) {
		r = fsconfig(fs_fd, FSCONFIG_SET_FLAG, option, NULL, 0);
	} else {
		key = mem_strndup(option, (size_t) (equals - option));
		r = fsconfig(fs_fd, FSCONFIG_SET_STRING, key, equals + 1, 0);
	}
	return r < 0 ? -errno : 0;
}

static int configure(int fs_fd, const char *source, const char *const *options,
		     enum fsconfig_command command)
{
	int r;

	if (source && fsconfig(fs_fd, FSCONFIG_SET_STRING, "source", source, 0) < 0)
		return -errno;
	for (; options && *options; options++) {
		r = set_option(fs_fd, *options);
		if (r < 0)
			return r;
	}
	return fsconfig(fs_fd, command, NULL, NULL, 0) < 0 ? -errno : 0;
}

int mount_make(const char *type, const char *source, const char *const *options, uint64_t attr,
	       char *ret_why, size_t why_size)
{
	AUTO(fd_close) int fs_fd = fsopen(type, FSOPEN_CLOEXEC);
	int r, fd;

	if (ret_why && why_size)
		ret_why[0] = '\0';
	if (fs_fd < 0)
		return -errno;
	r = configure(fs_fd, source, options, FSCONFIG_CMD_CREATE);
	if (r < 0) {
		read_why(fs_fd, ret_why, why_size);
		return r;
	}
	fd = fsmount(fs_fd, FSMOUNT_CLOEXEC, (unsigned int) attr);
	return fd < 0 ? -errno : fd;
}

int mount_reconfigure(int mount_fd, const char *const *options, char *ret_why, size_t why_size)
{
	AUTO(fd_close) int fs_fd = fspick(mount_fd, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH);
	int r;

	if (ret_why && why_size)
		ret_why[0] = '\0';
	if (fs_fd < 0)
		return -errno;
	r = configure(fs_fd, NULL, options, FSCONFIG_CMD_RECONFIGURE);
	if (r < 0)
		read_why(fs_fd, ret_why, why_size);
	return r;
}

int mount_change(int dir_fd, const char *path, bool recursive, uint64_t set, uint64_t clear,
		 uint64_t propagation)
{
	struct mount_attr attr = {
		.attr_set = set,
		.attr_clr = clear,
		.propagation = propagation,
	};
	unsigned int flags = recursive ? AT_RECURSIVE : 0;

	if (!path[0])
		flags |= AT_EMPTY_PATH;
	return mount_setattr(dir_fd, path, flags, &attr, sizeof(attr)) < 0 ? -errno : 0;
}

int mount_attach(int mount_fd, int target_fd)
{
	return move_mount(mount_fd, "", target_fd, "",
			  MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0
		       ? -errno
		       : 0;
}

static int open_resolved(int root_fd, const char *path, int flags, uint64_t resolve)
{
	struct open_how how = { .flags = (uint64_t) (flags | O_CLOEXEC), .resolve = resolve };
	long fd;

	/* -EAGAIN: a rename or mount raced with "..". */
	for (int tries = 0; tries < 64; tries++) {
		fd = syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
		if (fd >= 0)
			return (int) fd;
		if (errno != EAGAIN)
			break;
	}
	return -errno;
}

int mount_open_in_root(int root_fd, const char *path, int flags)
{
	return open_resolved(root_fd, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

int mount_open_plain(int root_fd, const char *path, int flags)
{
	return open_resolved(root_fd, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
}

/* The walk of mount_create_in_root(): `done` is what is resolved, `rest` what is to come. */
struct walk {
	int root_fd;
	char done[PATH_MAX];
	char rest[PATH_MAX];
	unsigned int links;
};

static void walk_up(struct walk *walk)
{
	char *slash = strrchr(walk->done, '/');

	if (slash)
		*slash = '\0';
	else
		walk->done[0] = '\0';
}

/* Puts the target of the link `name` in front of what is to come. */
static int walk_link(struct walk *walk, int dir_fd, const char *name)
{
	char link[PATH_MAX], rest[PATH_MAX];
	ssize_t n = readlinkat(dir_fd, name, link, sizeof(link) - 1);

	if (n < 0)
		return -errno;
	if (++walk->links > LINKS_MAX)
		return -ELOOP;
	link[n] = '\0';
	memcpy(rest, walk->rest, sizeof(rest));
	if (snprintf(walk->rest, sizeof(walk->rest), "%s/%s", link, rest) >=
	    (int) sizeof(walk->rest))
		return -ENAMETOOLONG;
	if (link[0] == '/')
		walk->done[0] = '\0';
	return 0;
}

static int create_last(int dir_fd, const char *name, mode_t mode)
{
	AUTO(fd_close)
	int fd = openat(dir_fd, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, mode);

	return fd < 0 ? -errno : 0;
}

/* One component: exists, is a link, or is made. */
static int walk_step(struct walk *walk, const char *name, bool last, enum mount_place place,
		     mode_t mode)
{
	AUTO(fd_close)
	int dir_fd = mount_open_in_root(walk->root_fd, walk->done[0] ? walk->done : "/",
					O_PATH | O_DIRECTORY);
	size_t used = strlen(walk->done);
	struct stat st;
	int r = 0;

	if (dir_fd < 0)
		return dir_fd;
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (S_ISLNK(st.st_mode))
			return walk_link(walk, dir_fd, name);
	} else if (errno != ENOENT) {
		return -errno;
	} else if (last && place == MOUNT_PLACE_FILE) {
		r = create_last(dir_fd, name, mode);
	} else {
		r = mkdirat(dir_fd, name, last ? mode : 0755) < 0 ? -errno : 0;
	}
	if (r < 0 && r != -EEXIST)
		return r;
	if (snprintf(walk->done + used, sizeof(walk->done) - used, "/%s", name) >=
	    (int) (sizeof(walk->done) - used))
		return -ENAMETOOLONG;
	return 0;
}

int mount_create_in_root(int root_fd, const char *path, enum mount_place place, mode_t mode)
{
	struct walk walk;
	int fd = mount_open_in_root(root_fd, path, O_PATH), r;

	if (fd != -ENOENT)
		return fd;
	walk.root_fd = root_fd;
	walk.links = 0;
	walk.done[0] = '\0';
	if (snprintf(walk.rest, sizeof(walk.rest), "%s", path) >= (int) sizeof(walk.rest))
		return -ENAMETOOLONG;
	for (;;) {
		size_t start = strspn(walk.rest, "/"), length;
		char name[NAME_MAX + 1];
		bool last;

		length = strcspn(walk.rest + start, "/");
		if (length == 0)
			break;
		if (length > NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, walk.rest + start, length);
		name[length] = '\0';
		memmove(walk.rest, walk.rest + start + length,
			strlen(walk.rest + start + length) + 1);
		last = walk.rest[strspn(walk.rest, "/")] == '\0';
		if (strcmp(name, ".") == 0)
			continue;
		if (strcmp(name, "..") == 0) {
			walk_up(&walk);
			continue;
		}
		r = walk_step(&walk, name, last, place, mode);
		if (r < 0)
			return r;
	}
	return mount_open_in_root(root_fd, walk.done[0] ? walk.done : "/", O_PATH);
}

int mount_open_parent_in_root(int root_fd, const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	AUTO(free) char *dir = NULL;
	int fd;

	if (!name[0] || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EINVAL;
	dir = mem_strndup(path, (size_t) (name - path));
	fd = mount_create_in_root(root_fd, dir[0] ? dir : "/", MOUNT_PLACE_DIR, 0755);
	if (fd >= 0)
		*ret_name = name;
	return fd;
}

int mount_pivot(int new_root_fd)
{
	if (fchdir(new_root_fd) < 0)
		return -errno;
	/* Both in one place: the old root ends on top of the new one, where it is taken away. */
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return -errno;
	if (umount2(".", MNT_DETACH) < 0)
		return -errno;
	return chdir("/") < 0 ? -errno : 0;
}

int mount_chroot(int new_root_fd)
{
	if (fchdir(new_root_fd) < 0 || chroot(".") < 0)
		return -errno;
	return chdir("/") < 0 ? -errno : 0;
}
