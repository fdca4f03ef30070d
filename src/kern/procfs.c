#include "kern/procfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/mem.h"

enum { PROC_TOP_INODE = 1 };

int procfs_open(void)
{
	AUTO(fd_close) int fd = open("/proc", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct statfs fs;
	struct stat st;

	if (fd < 0 || fstatfs(fd, &fs) < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (fs.f_type != PROC_SUPER_MAGIC || st.st_ino != PROC_TOP_INODE)
		return -ENOTTY;
	return TAKE_FD(fd);
}

int procfs_write(int proc_fd, const char *path, const char *text)
{
	struct open_how how = {
		.flags = O_WRONLY | O_CLOEXEC | O_NOCTTY,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS,
	};
	AUTO(fd_close) int fd = (int) syscall(SYS_openat2, proc_fd, path, &how, sizeof(how));
	ssize_t n;

	if (fd < 0)
		return -errno;
	do
		n = write(fd, text, strlen(text));
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

int procfs_write_self(int proc_fd, const char *path, const char *text)
{
	AUTO(free) char *below = NULL;
	char task[64];
	/* Where it leads depends on whose procfs it is; the numbers of our own namespace may not.
	 */
	ssize_t n = readlinkat(proc_fd, "thread-self", task, sizeof(task) - 1);

	if (n < 0)
		return -errno;
	task[n] = '\0';
	below = mem_printf("%s/%s", task, path);
	return procfs_write(proc_fd, below, text);
}
