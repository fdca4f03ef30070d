#include "image/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "image/helper_internal.h"
#include "image/rootfs.h"
#include "image/store_internal.h"
#include "kern/idmap.h"

enum { WORDS_MAX = 200 };

static int open_disk(struct image_store *store, const char *name, int *ret_fd)
{
	int fd = openat(store->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

/* A folder that the next opening of the store removes, should we not. */
static int make_job(struct image_store *store, char **ret, struct error *err)
{
	char *path = mem_printf("%s/jobs/disk-XXXXXX", store->dir);

	if (!mkdtemp(path)) {
		int r = error_set(err, -errno, "make %s", path);

		free(path);
		return r;
	}
	*ret = path;
	return 0;
}

static int run_worker(struct image_store *store, int root_fd, int out_fd, int cancel_fd,
		      struct error *err)
{
	const struct idmap_range range = { 0, rootfs_slot_uid(IMAGE_DISK_SLOT), LAYER_UID_COUNT };
	AUTO(fd_close) int userns_fd = -1;
	int r = idmap_userns_new(&range, 1, &userns_fd);

	if (r < 0)
		return error_set(err, r, "user namespace for a disk");
	const struct helper helper = {
		.worker = store->worker,
		.action = "disk",
		.stream_fd = out_fd,
		.root_fd = root_fd,
		.extra_fd = userns_fd,
		.more_fd = -1,
		.cancel_fd = cancel_fd,
	};
	return helper_run(&helper, json_object(), NULL, err);
}

static int make_disk(struct image_store *store, const char *job, char *const *layers, int cancel_fd,
		     const char *name, struct error *err)
{
	uint32_t owner = rootfs_slot_uid(IMAGE_DISK_SLOT);
	AUTO(free) char *upper = mem_printf("%s/upper", job);
	AUTO(free) char *work = mem_printf("%s/work", job);
	AUTO(free) char *out = mem_printf("%s/disk", job);
	AUTO(fd_close) int root_fd = -1;
	AUTO(fd_close) int out_fd = open(out, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r;

	if (out_fd < 0 || fchown(out_fd, owner, owner) < 0)
		return error_set(err, -errno, "make %s", out);
	r = rootfs_open(store, layers, upper, work, IMAGE_DISK_SLOT, &root_fd, err);
	if (r == 0)
		r = run_worker(store, root_fd, out_fd, cancel_fd, err);
	if (r < 0)
		return r;
	if (fchown(out_fd, 0, 0) < 0 || fchmod(out_fd, 0400) < 0 || fdatasync(out_fd) < 0 ||
	    renameat(AT_FDCWD, out, store->dir_fd, name) < 0)
		return error_set(err, -errno, "keep the disk of the image");
	return 0;
}

int image_disk_open(struct image_store *store, const struct digest *manifest, char *const *layers,
		    int cancel_fd, int *ret_fd, struct error *err)
{
	char hex[DIGEST_TEXT_SIZE];
	AUTO(free) char *name = NULL;
	AUTO(free) char *job = NULL;
	AUTO(fd_close) int lock_fd = -1;
	int r;

	digest_hex(manifest, hex);
	name = mem_printf("disks/%s", hex);
	if (open_disk(store, name, ret_fd) == 0)
		return 0;
	/* One after the other: making a disk keeps a disk busy, and the next may need the same. */
	lock_fd = openat(store->dir_fd, "disks", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lock_fd < 0 || flock(lock_fd, LOCK_EX) < 0)
		return error_set(err, -errno, "%s/disks", store->dir);
	if (open_disk(store, name, ret_fd) == 0)
		return 0;
	r = make_job(store, &job, err);
	if (r < 0)
		return r;
	r = make_disk(store, job, layers, cancel_fd, name, err);
	(void) file_remove_tree(AT_FDCWD, job);
	if (r < 0)
		return error_wrap(err, r, "make a disk of the image");
	r = open_disk(store, name, ret_fd);
	return r < 0 ? error_set(err, r, "open the disk of the image") : 0;
}

/* The first line of what a program says; the rest is read and forgotten. */
static ssize_t read_words(int fd, char words[WORDS_MAX + 1])
{
	size_t size = 0;
	char rest[512];
	ssize_t n;

	while ((n = read(fd, size < WORDS_MAX ? words + size : rest,
			 size < WORDS_MAX ? WORDS_MAX - size : sizeof(rest))) > 0 ||
	       (n < 0 && errno == EINTR))
		if (n > 0 && size < WORDS_MAX)
			size += (size_t) n;
	words[size] = '\0';
	return (ssize_t) strcspn(words, "\n");
}

static int run_mke2fs(const char *path, struct error *err)
{
	/* What can be done later is done later, by the guest's kernel: this takes milliseconds. */
	char *argv[] = { (char *) "mke2fs",
			 (char *) "-q",
			 (char *) "-F",
			 (char *) "-t",
			 (char *) "ext4",
			 (char *) "-m",
			 (char *) "0",
			 (char *) "-E",
			 (char *) "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0",
			 (char *) path,
			 NULL };
	char *env[] = { (char *) "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	posix_spawn_file_actions_t actions;
	char words[WORDS_MAX + 1];
	int fds[2], r, status;
	ssize_t n;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "pipe");
	AUTO(fd_close) int words_fd = fds[0];
	posix_spawn_file_actions_init(&actions);
	r = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	if (r == 0)
		r = posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&actions, fds[1], 2);
	if (r == 0)
		r = posix_spawnp(&pid, "mke2fs", &actions, NULL, argv, env);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	if (r == ENOENT)
		return error_say(err, -ENOENT, "mke2fs is not installed (package e2fsprogs)");
	if (r != 0)
		return error_set(err, -r, "start mke2fs");
	/* Its first line says why; it is not stopped by a pipe that nobody reads. */
	n = read_words(words_fd, words);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return error_say(err, -EIO, "make %s: %.*s", path, (int) n, words);
}

int image_disk_make_empty(const char *path, uint64_t size_bytes, struct error *err)
{
	AUTO(free) char *partial = mem_printf("%s.new", path);
	AUTO(fd_close) int fd = -1;
	int r;

	if (size_bytes < IMAGE_DISK_SIZE_MIN || size_bytes > INT64_MAX)
		return error_say(err, -EINVAL, "a disk must have at least %d MiB",
				 IMAGE_DISK_SIZE_MIN >> 20);
	if (access(path, F_OK) == 0)
		return error_set(err, -EEXIST, "%s", path);
	fd = open(partial, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || ftruncate(fd, (off_t) size_bytes) < 0)
		return error_set(err, -errno, "make %s", partial);
	r = run_mke2fs(partial, err);
	if (r == 0 && rename(partial, path) < 0)
		r = error_set(err, -errno, "make %s", path);
	if (r < 0)
		unlink(partial);
	return r;
}
