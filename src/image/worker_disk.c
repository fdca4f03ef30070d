/*
 * The worker that makes a disk: mkfs.erofs (or mke2fs) over the merged layers of an image.
 *
 * The program is the host's, what it reads is a stranger's.  It gets a root with the host's /usr
 * (read-only), the tree at /image (read-only) and the result at /disk, no network, is user 0 of a
 * user namespace with nothing but the right to read every file of the tree, and has the system
 * calls of the sandbox (sandbox_internal.h): it starts nothing else, and mounts nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "image/sandbox_internal.h"
#include "image/wire_internal.h"
#include "image/worker.h"
#include "image/worker_internal.h"
#include "kern/caps.h"

enum { WORDS_MAX = 400, CAP_DAC_READ_SEARCH_BIT = 2, CAP_DAC_OVERRIDE_BIT = 1 };

/* What a disk may have at most; also what mke2fs is asked for, sparse. */
#define DISK_BYTES_MAX (UINT64_C(64) << 30)

static const char *const erofs[] = { "/usr/bin/mkfs.erofs", "/disk", "/image", NULL };
static const char *const ext4[] = {
	"/usr/sbin/mke2fs", "-q",    "-F",  "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d",
	"/image",           "/disk", "64g", NULL
};

/* `fd`: a mount that was cloned from `source`. */
static int attach(int fd, const char *source, const char *target, bool folder, uint64_t attr,
		  struct error *err)
{
	struct mount_attr change = { .attr_set = attr };

	if (fd < 0 || mount_setattr(fd, "", AT_EMPTY_PATH, &change, sizeof(change)) < 0)
		return error_set(err, -errno, "disk: %s", source);
	if (folder ? mkdir(target, 0755) < 0 : mknod(target, S_IFREG | 0644, 0) < 0)
		return error_set(err, -errno, "disk: %s", target);
	return move_mount(fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0
		       ? error_set(err, -errno, "disk: %s", target)
		       : 0;
}

/* Where /lib leads to is a part of /usr everywhere by now. */
static int copy_links(struct error *err)
{
	static const char *const names[] = { "lib", "lib64", "bin", "sbin" };

	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		char source[16], target[64];
		ssize_t n;

		snprintf(source, sizeof(source), "/%s", names[i]);
		n = readlink(source, target, sizeof(target) - 1);
		if (n < 0)
			continue;
		target[n] = '\0';
		if (symlink(target, names[i]) < 0)
			return error_set(err, -errno, "disk: %s", source);
	}
	return 0;
}

static int attach_image(struct error *err)
{
	struct mount_attr harmless = { .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
						   MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC };

	if (mkdir("image", 0755) < 0 ||
	    mount_setattr(WORKER_JOB_FD, "", AT_EMPTY_PATH, &harmless, sizeof(harmless)) < 0 ||
	    move_mount(WORKER_JOB_FD, "", AT_FDCWD, "image", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_set(err, -errno, "disk: the image's tree");
	return 0;
}

static int enter_root(struct error *err)
{
	char disk[32];
	int r;

	snprintf(disk, sizeof(disk), "/proc/self/fd/%d", WORKER_INPUT_FD);
	/* What a descriptor leads to lies in the namespace that is left here: cloned before. */
	AUTO(fd_close)
	int disk_fd = open_tree(AT_FDCWD, disk, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	AUTO(fd_close)
	int usr_fd = open_tree(AT_FDCWD, "/usr", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m") < 0 ||
	    chdir("/tmp") < 0)
		return error_set(err, -errno, "disk: root folder");
	r = attach(usr_fd, "/usr", "usr", true,
		   MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
	if (r == 0)
		r = copy_links(err);
	if (r == 0)
		r = attach(disk_fd, "the result", "disk", false,
			   MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, err);
	if (r == 0)
		r = attach_image(err);
	if (r < 0)
		return r;
	if (mkdir("tmp", 01777) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
	    umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return error_set(err, -errno, "disk: root folder");
	return 0;
}

/* For the rest of this process, which the program inherits. */
static int become_nobody(struct error *err)
{
	const struct rlimit file = { DISK_BYTES_MAX, DISK_BYTES_MAX }, core = { 0, 0 };
	uint64_t kept = UINT64_C(1) << CAP_DAC_READ_SEARCH_BIT | UINT64_C(1)
									 << CAP_DAC_OVERRIDE_BIT;
	int r;

	if (setns(WORKER_EXTRA_FD, CLONE_NEWUSER) < 0 || setgroups(0, NULL) < 0 ||
	    setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return error_set(err, -errno, "disk: user 0 of the image");
	if (setrlimit(RLIMIT_FSIZE, &file) < 0 || setrlimit(RLIMIT_CORE, &core) < 0 ||
	    prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set(err, -errno, "disk: limits");
	r = caps_drop_bounding(kept);
	if (r == 0)
		r = caps_set(kept, kept, 0);
	return r < 0 ? error_set(err, r, "disk: capabilities") : 0;
}

static void execute(const char *const *argv, int words_fd)
{
	static const char *const env[] = { "PATH=/usr/sbin:/usr/bin", "LC_ALL=C", NULL };
	struct error err = {};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(words_fd, STDOUT_FILENO);
	dup2(words_fd, STDERR_FILENO);
	close_range(3, ~0u, 0);
	if (sandbox_limit_program(argv[0], &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		_exit(127);
	}
	execve(argv[0], (char *const *) (uintptr_t) argv, (char *const *) (uintptr_t) env);
	_exit(127);
}

/* The last line of what it says, when it fails. */
static int run_program(const char *const *argv, struct error *err)
{
	char words[WORDS_MAX + 1], *line;
	size_t size = 0;
	int fds[2], status, r;
	ssize_t n;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "disk: pipe");
	pid = fork();
	if (pid == 0)
		execute(argv, fds[1]);
	close(fds[1]);
	if (pid < 0) {
		close(fds[0]);
		return error_set(err, -errno, "disk: start %s", argv[0]);
	}
	r = sandbox_limit_waiter(err);
	if (r < 0) {
		kill(pid, SIGKILL);
		return r;
	}
	while ((n = read(fds[0], words + size, WORDS_MAX - size)) > 0) {
		size += (size_t) n;
		/* The end is what counts. */
		if (size == WORDS_MAX) {
			memmove(words, words + WORDS_MAX / 2, WORDS_MAX / 2);
			size = WORDS_MAX / 2;
		}
	}
	close(fds[0]);
	while (size > 0 && words[size - 1] == '\n')
		size--;
	words[size] = '\0';
	line = strrchr(words, '\n');
	if (waitpid(pid, &status, 0) < 0)
		return error_set(err, -errno, "disk: wait");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return error_say(err, -EIO, "%s: %s", argv[0], line ? line + 1 : words);
}

int disk_worker(struct wire *wire, const char *action, struct error *err)
{
	AUTO(json_decref) json_t *request = NULL;
	const char *const *argv;
	int r = wire_receive(wire, &request, err);

	(void) action;
	if (r < 0)
		return r;
	argv = access(erofs[0], X_OK) == 0 ? erofs : ext4;
	if (access(argv[0], X_OK) < 0)
		return error_say(err, -ENOENT,
				 "neither mkfs.erofs (package erofs-utils) nor mke2fs (e2fsprogs) "
				 "is installed");
	r = enter_root(err);
	if (r == 0)
		r = become_nobody(err);
	return r < 0 ? r : run_program(argv, err);
}
