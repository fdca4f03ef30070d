#include "kern/idmap.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/strbuf.h"

/*
 * A process in a new user namespace, which waits to be killed.  Its end sends no signal, so that
 * the program's own handling of SIGCHLD does not see it.
 */
static pid_t spawn_in_userns(void)
{
	pid_t parent = getpid();
	pid_t pid =
		(pid_t) syscall(SYS_clone, (unsigned long) CLONE_NEWUSER, NULL, NULL, NULL, NULL);

	if (pid == 0) {
		/* It must outlive neither our locks nor us, whenever we are killed. */
		close_range(0, ~0U, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(0);
		for (;;)
			pause();
	}
	return pid < 0 ? -errno : pid;
}

static int write_maps(pid_t pid, const struct idmap_range *ranges, size_t count)
{
	AUTO(strbuf_done) struct strbuf text = {};
	char path[64];
	int r;

	for (size_t i = 0; i < count; i++)
		strbuf_printf(&text, "%u %u %u\n", ranges[i].inside, ranges[i].outside,
			      ranges[i].count);
	snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
	r = file_write_kernel(AT_FDCWD, path, strbuf_str(&text));
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "/proc/%d/gid_map", pid);
	return file_write_kernel(AT_FDCWD, path, strbuf_str(&text));
}

int idmap_userns_new(const struct idmap_range *ranges, size_t count, int *ret_fd)
{
	pid_t pid = spawn_in_userns();
	char path[64];
	int fd = -1, r;

	if (pid < 0)
		return pid;
	r = write_maps(pid, ranges, count);
	if (r == 0) {
		snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			r = -errno;
	}
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
		;
	if (r == 0)
		*ret_fd = fd;
	return r;
}

int idmap_clone_mount(int fd, int userns_fd, bool read_only, int *ret_fd)
{
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_IDMAP | (read_only ? MOUNT_ATTR_RDONLY : 0),
		.userns_fd = (uint64_t) userns_fd,
	};
	AUTO(fd_close)
	int tree = (int) syscall(SYS_open_tree, fd, "",
				 AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (tree < 0)
		return -errno;
	if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return -errno;
	*ret_fd = TAKE_FD(tree);
	return 0;
}
