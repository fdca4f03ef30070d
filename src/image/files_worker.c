#include "image/files_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "codec/file_stat.h"
#include "image/sandbox_internal.h"
#include "image/worker.h"
#include "kern/statfs.h"

enum { LINK_MAX = 4096 };

static int open_how(int dir_fd, const char *path, int flags, uint64_t resolve)
{
	struct open_how how = { .flags = (uint64_t) (flags | O_CLOEXEC),
				.resolve = resolve | RESOLVE_NO_MAGICLINKS };
	int fd;

	if (!(flags & O_PATH))
		how.flags |= O_NONBLOCK | O_NOCTTY;
	fd = (int) syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
	return fd < 0 ? -errno : fd;
}

int files_open_below(int root_fd, const char *path, int flags)
{
	return open_how(root_fd, path, flags, RESOLVE_IN_ROOT);
}

int files_open_child(int dir_fd, const char *name, int flags)
{
	return open_how(dir_fd, name, flags | O_NOFOLLOW, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

/*
 * A clone of the instance's mounts, without what opening a file could do: nobody else sees it, and
 * it ends with us.  Afterwards we are again where we were.
 */
static int clone_mounts(int namespace_fd, struct error *err)
{
	AUTO(fd_close) int own_fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	int fd;

	if (own_fd < 0 || setns(namespace_fd, CLONE_NEWNS) < 0)
		return error_set(err, -errno, "the instance's mounts");
	fd = open_tree(AT_FDCWD, "/", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (fd < 0)
		return error_set(err, -errno, "clone the instance's mounts");
	if (setns(own_fd, CLONE_NEWNS) < 0) {
		close(fd);
		return error_set(err, -errno, "mount namespace");
	}
	return fd;
}

static int make_harmless(int fd, bool recursive, struct error *err)
{
	struct mount_attr attr = { .attr_set =
					   MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
				   .propagation = MS_PRIVATE };

	if (mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr,
			  sizeof(attr)) < 0)
		return error_set(err, -errno, "the instance's root");
	return 0;
}

static int open_root(bool is_namespace, int *ret_fd, struct error *err)
{
	int r;

	*ret_fd = is_namespace ? clone_mounts(WORKER_JOB_FD, err) : dup(WORKER_JOB_FD);
	if (*ret_fd < 0)
		return is_namespace ? *ret_fd : error_set(err, -errno, "the instance's root");
	close(WORKER_JOB_FD);
	r = make_harmless(*ret_fd, is_namespace, err);
	if (r == 0)
		r = sandbox_enter_instance(WORKER_EXTRA_FD, err);
	return r;
}

static int read_request(struct wire *wire, struct files_work *work, bool *ret_namespace,
			struct error *err)
{
	AUTO(json_decref) json_t *request = NULL;
	AUTO(free) char *path = NULL;
	struct json_reader in = { .err = err, .where = "request" };
	int r = wire_receive(wire, &request, err);

	if (r < 0)
		return r;
	json_read_string(&in, request, "path", &path);
	json_read_bool(&in, request, "namespace", ret_namespace);
	json_read_bool(&in, request, "follow", &work->follow);
	json_read_bool(&in, request, "keep_ids", &work->keep_ids);
	r = json_reader_finish(&in, request);
	if (r < 0)
		return r;
	if (!path || wire_path_decode(path, &work->path) < 0 || work->path[0] != '/')
		return error_say(err, -EINVAL, "path: must be absolute, like \"/etc\"");
	return 0;
}

/* Writes the line that says what the path is. */
static int describe(const struct files_work *work, const char *name, struct error *err)
{
	AUTO(fd_close)
	int fd = files_open_below(work->root_fd, work->path,
				  O_PATH | (work->follow ? 0 : O_NOFOLLOW));
	char target[LINK_MAX + 1];
	struct stat st;
	ssize_t n;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, fd < 0 ? fd : -errno, "%.300s", work->path);
	if (statfs_made_up(fd) && !S_ISDIR(st.st_mode))
		return error_say(err, -EINVAL,
				 "%.300s is made by the kernel (%s): read it with exec and cat",
				 work->path, statfs_made_up(fd));
	n = S_ISLNK(st.st_mode) ? readlinkat(fd, "", target, LINK_MAX) : 0;
	target[n > 0 ? n : 0] = '\0';
	AUTO(free) char *line = file_stat_line(name, &st, n > 0 ? target : NULL);
	r = file_write_all(WORKER_INPUT_FD, line, strlen(line));
	return r < 0 ? error_set(err, r, "write to the stream") : 0;
}

int files_worker(struct wire *wire, const char *action, struct error *err)
{
	struct files_work work = { .root_fd = -1 };
	AUTO(free) char *name = NULL;
	bool is_namespace = false;
	int r = read_request(wire, &work, &is_namespace, err);

	if (r == 0)
		r = open_root(is_namespace, &work.root_fd, err);
	if (r < 0)
		return r;
	if (strcmp(action, "put") == 0)
		return files_put(&work, err);
	name = file_stat_name(work.path);
	r = describe(&work, name, err);
	if (r == 0 && strcmp(action, "get") == 0)
		r = files_get(&work, name, err);
	return r;
}
