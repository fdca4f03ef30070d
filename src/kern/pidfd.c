#include "kern/pidfd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

/* The kernel's struct pidfd_info, first version; Debian 12's headers do not have it. */
struct pidfd_info_v0 {
	uint64_t mask;
	uint64_t cgroup_id;
	uint32_t pid, tgid, ppid, ids[8];
	int32_t exit_code;
};

#define PIDFD_GET_INFO_V0 _IOWR(0xFF, 11, struct pidfd_info_v0)

enum { PIDFD_INFO_EXIT_MASK = 1 << 3, STAT_SIZE_MAX = 4096 };

int pidfd_parse_stat(const char *text, struct pidfd_stat *ret)
{
	/* The name in parentheses may hold anything, also ") R 1": the last ')' ends it. */
	const char *p = strrchr(text, ')');
	struct pidfd_stat stat = {};
	unsigned long long start = 0;
	int parent;

	if (!p || sscanf(p + 1,
			 " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
			 "%*d %llu",
			 &stat.state, &parent, &start) != 3)
		return -EBADMSG;
	stat.parent = parent;
	stat.start_time = start;
	p = strrchr(p, ' ');
	if (p && sscanf(p, " %d", &stat.wait_status) != 1)
		return -EBADMSG;
	*ret = stat;
	return 0;
}

int pidfd_read_stat(pid_t pid, struct pidfd_stat *ret)
{
	AUTO(free) char *text = NULL;
	char path[32];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	r = file_read(AT_FDCWD, path, STAT_SIZE_MAX, &text, NULL);
	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	return pidfd_parse_stat(text, ret);
}

int pidfd_open_pid(pid_t pid)
{
	int fd = (int) syscall(SYS_pidfd_open, pid, 0);

	if (fd >= 0)
		return fd;
	/* Kernels before 6.15 answer EINVAL for one that is being reaped at this moment. */
	return pid > 0 && errno == EINVAL ? -ESRCH : -errno;
}

int pidfd_open_started(pid_t pid, uint64_t start_time)
{
	AUTO(fd_close) int fd = -1;
	struct pidfd_stat stat;
	int r;

	if (pid <= 0)
		return -ESRCH;
	fd = pidfd_open_pid(pid);
	if (fd < 0)
		return TAKE_FD(fd);
	r = pidfd_read_stat(pid, &stat);
	if (r < 0)
		return r;
	return stat.start_time == start_time ? TAKE_FD(fd) : -ESRCH;
}

int pidfd_send(int pidfd, int signal_number)
{
	return syscall(SYS_pidfd_send_signal, pidfd, signal_number, NULL, 0) < 0 ? -errno : 0;
}

static int status_of_reaped(int pidfd, int *ret_wait_status)
{
	struct pidfd_info_v0 info = { .mask = PIDFD_INFO_EXIT_MASK };

	if (ioctl(pidfd, PIDFD_GET_INFO_V0, &info) < 0 || !(info.mask & PIDFD_INFO_EXIT_MASK))
		return -ENODATA;
	*ret_wait_status = info.exit_code;
	return 0;
}

int pidfd_exit_status(int pidfd, pid_t pid, int *ret_wait_status)
{
	struct pidfd_stat stat;

	if (status_of_reaped(pidfd, ret_wait_status) == 0)
		return 0;
	/* While it is a zombie its pid cannot be reused; if it is reaped now, the kernel knows. */
	if (pidfd_read_stat(pid, &stat) == 0 && stat.state == 'Z') {
		*ret_wait_status = stat.wait_status;
		return 0;
	}
	return status_of_reaped(pidfd, ret_wait_status);
}
