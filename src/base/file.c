#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "base/strbuf.h"

enum { REMOVE_DEPTH_MAX = 512 };

int file_read_fd(int fd, size_t max_bytes, char **ret, size_t *ret_size)
{
	AUTO(strbuf_done) struct strbuf buf = {};

	for (;;) {
		size_t want = buf.capacity > buf.size + 4096 ? buf.capacity - buf.size - 1 : 4096;
		ssize_t n = read(fd, strbuf_reserve(&buf, want), want);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		strbuf_grown(&buf, (size_t) n);
		if (buf.size > max_bytes)
			return -EFBIG;
	}
	if (ret_size)
		*ret_size = buf.size;
	*ret = strbuf_take(&buf);
	return 0;
}

int file_read(int dir_fd, const char *path, size_t max_bytes, char **ret, size_t *ret_size)
{
	AUTO(fd_close) int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return -errno;
	return file_read_fd(fd, max_bytes, ret, ret_size);
}

int file_write_kernel(int dir_fd, const char *path, const char *text)
{
	AUTO(fd_close) int fd = openat(dir_fd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	ssize_t n;

	if (fd < 0)
		return -errno;
	do
		n = write(fd, text, strlen(text));
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

int file_write_all(int fd, const void *data, size_t size)
{
	const char *p = data;

	while (size > 0) {
		ssize_t n = write(fd, p, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		size -= (size_t) n;
	}
	return 0;
}

static int sync_parent(int dir_fd, const char *path)
{
	AUTO(free) char *parent = mem_strdup(path);
	char *slash = strrchr(parent, '/');

	if (slash == parent)
		slash[1] = '\0';
	else if (slash)
		*slash = '\0';
	AUTO(fd_close)
	int fd = openat(dir_fd, slash ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return fsync(fd) < 0 ? -errno : 0;
}

static int write_temporary(int dir_fd, const char *temporary, const void *data, size_t size,
			   mode_t mode, int durable)
{
	AUTO(fd_close)
	int fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
			mode);
	int r;

	if (fd < 0)
		return -errno;
	r = file_write_all(fd, data, size);
	if (r < 0)
		return r;
	return durable && fsync(fd) < 0 ? -errno : 0;
}

int file_write_atomic(int dir_fd, const char *path, const void *data, size_t size, mode_t mode,
		      int durable)
{
	AUTO(free) char *temporary = mem_printf("%s.%d.tmp", path, gettid());
	int r = write_temporary(dir_fd, temporary, data, size, mode, durable);

	if (r == 0 && renameat(dir_fd, temporary, dir_fd, path) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(dir_fd, temporary, 0);
		return r;
	}
	return durable ? sync_parent(dir_fd, path) : 0;
}

int file_mkdir_all(const char *path, mode_t mode)
{
	AUTO(free) char *copy = mem_strdup(path);

	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, mode) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(copy, mode) < 0 && errno != EEXIST ? -errno : 0;
}

static int remove_at(int dir_fd, const char *name, unsigned int depth);

static int remove_entries(int fd, unsigned int depth)
{
	DIR *dir = fdopendir(fd);
	int result = 0;

	if (!dir) {
		int r = -errno;
		close(fd);
		return r;
	}
	for (;;) {
		errno = 0;
		struct dirent *entry = readdir(dir);

		if (!entry) {
			if (errno && !result)
				result = -errno;
			break;
		}
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		int r = remove_at(dirfd(dir), entry->d_name, depth + 1);
		if (r < 0 && !result)
			result = r;
	}
	closedir(dir);
	return result;
}

static int remove_at(int dir_fd, const char *name, unsigned int depth)
{
	int fd, r;

	if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM && errno != EBUSY)
		return -errno;
	if (depth > REMOVE_DEPTH_MAX)
		return -ELOOP;
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOTDIR ? -EPERM : -errno;

	struct stat parent, child;
	if (depth > 0 && fstat(dir_fd, &parent) == 0 && fstat(fd, &child) == 0 &&
	    parent.st_dev != child.st_dev) {
		close(fd);
		return -EBUSY;
	}
	r = remove_entries(fd, depth);
	if (r < 0)
		return r;
	return unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int file_remove_tree(int dir_fd, const char *path)
{
	int r = remove_at(dir_fd, path, 0);
	struct stat st;

	/* A read-only file system says so before it looks whether there is anything. */
	if (r == -EROFS && fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		return 0;
	return r;
}

int file_lock_pid(const char *path)
{
	AUTO(fd_close) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	char text[16];
	int n;

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	n = snprintf(text, sizeof(text), "%d\n", getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t) n, 0) < 0)
		return -errno;
	return TAKE_FD(fd);
}
