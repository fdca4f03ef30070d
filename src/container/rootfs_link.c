#include "container/rootfs_link.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "kern/mount.h"

int rootfs_read_link(const char *source, char **ret, struct error *err)
{
	char target[PATH_MAX];
	ssize_t n = readlink(source, target, sizeof(target));

	if (n < 0 && errno != EINVAL)
		return error_set(err, -errno, "source \"%s\"", source);
	if (n == sizeof(target))
		return error_set(err, -ENAMETOOLONG, "source \"%s\"", source);
	*ret = n < 0 ? NULL : mem_strndup(target, (size_t) n);
	return 0;
}

int rootfs_clone_nofollow(const char *source, bool recursive)
{
	AUTO(fd_close) int fd = open(source, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : mount_clone(fd, "", recursive);
}

int rootfs_make_link(int root, const char *destination, const char *target, struct error *err)
{
	const char *name = NULL;
	AUTO(fd_close) int dir = mount_open_parent_in_root(root, destination, &name);
	char there[PATH_MAX];
	ssize_t n;

	if (dir < 0)
		return error_set(err, dir, "destination \"%s\"", destination);
	if (symlinkat(target, dir, name) == 0)
		return 0;
	if (errno != EEXIST)
		return error_set(err, -errno, "destination \"%s\"", destination);
	n = readlinkat(dir, name, there, sizeof(there));
	if (n == (ssize_t) strlen(target) && memcmp(there, target, (size_t) n) == 0)
		return 0;
	return error_say(err, -EEXIST,
			 "destination \"%s\": has something else than the link to \"%.128s\"",
			 destination, target);
}

int rootfs_place_nofollow(int root, const char *destination, bool directory, struct error *err)
{
	const char *name = NULL;
	AUTO(fd_close) int dir = mount_open_parent_in_root(root, destination, &name);
	int fd = dir;

	for (int tries = 0; dir >= 0 && tries < 2; tries++) {
		fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0 || errno != ENOENT)
			break;
		if (directory)
			(void) mkdirat(dir, name, 0755);
		else
			fd_close(openat(dir, name,
					O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC,
					0644));
	}
	if (dir >= 0 && fd < 0)
		fd = -errno;
	return fd < 0 ? error_set(err, fd, "destination \"%s\"", destination) : fd;
}
