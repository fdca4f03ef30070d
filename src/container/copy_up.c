#include "container/copy_up.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "kern/mount.h"

enum { DEPTH_MAX = 128 };

static int copy_owner(int dir, const char *name, const struct stat *st)
{
	struct timespec times[2] = { st->st_atim, st->st_mtim };

	if (fchownat(dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISLNK(st->st_mode) && fchmodat(dir, name, st->st_mode & 07777, 0) < 0)
		return -errno;
	return utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int copy_file(int from, int to, const char *name)
{
	AUTO(fd_close) int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	AUTO(fd_close)
	int out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct stat st;
	ssize_t n;

	if (in < 0 || out < 0 || fstat(in, &st) < 0)
		return -errno;
	/* Whoever shares the root file system may have exchanged it since it was looked at. */
	if (!S_ISREG(st.st_mode))
		return -EAGAIN;
	while ((n = sendfile(out, in, NULL, 1 << 20)) > 0)
		;
	return n < 0 ? -errno : 0;
}

static int copy_link(int from, int to, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	target[n] = '\0';
	return symlinkat(target, to, name) < 0 ? -errno : 0;
}

static int copy_dir(int from, int to, int depth);

static int copy_entry(int from, int to, const char *name, int depth)
{
	struct stat st;
	int r;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode)) {
		AUTO(fd_close) int below_from = -1;
		AUTO(fd_close) int below_to = -1;

		if (mkdirat(to, name, 0700) < 0)
			return -errno;
		below_from = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		below_to = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (below_from < 0 || below_to < 0)
			return -errno;
		r = copy_dir(below_from, below_to, depth - 1);
	} else if (S_ISREG(st.st_mode)) {
		r = copy_file(from, to, name);
	} else if (S_ISLNK(st.st_mode)) {
		r = copy_link(from, to, name);
	} else {
		r = mknodat(to, name, st.st_mode, st.st_rdev) < 0 ? -errno : 0;
	}
	return r < 0 ? r : copy_owner(to, name, &st);
}

static int copy_dir(int from, int to, int depth)
{
	int copy = depth > 0 ? openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	struct dirent *entry;
	int r = 0;
	DIR *dir;

	if (copy < 0)
		return depth > 0 ? -errno : -ELOOP;
	dir = fdopendir(copy);
	if (!dir) {
		close(copy);
		return -ENOMEM;
	}
	while (r == 0 && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			r = copy_entry(from, to, entry->d_name, depth);
	closedir(dir);
	return r;
}

int copy_up(int root, const char *path, int mount_fd, struct error *err)
{
	AUTO(fd_close) int from = mount_open_in_root(root, path, O_RDONLY | O_DIRECTORY);
	AUTO(fd_close) int to = openat(mount_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	int r;

	if (from == -ENOENT)
		return 0;
	if (from < 0 || to < 0)
		return error_set(err, from < 0 ? from : -errno, "tmpcopyup of \"%s\"", path);
	r = copy_dir(from, to, DEPTH_MAX);
	if (r == 0)
		r = fstat(from, &st) < 0 ? -errno : copy_owner(to, ".", &st);
	return r < 0 ? error_set(err, r, "tmpcopyup of \"%s\"", path) : 0;
}
