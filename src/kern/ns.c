#include "kern/ns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/strbuf.h"

static const struct {
	uint64_t flag;
	const char *file;
} kinds[] = {
	{ CLONE_NEWUSER, "user" },     { CLONE_NEWPID, "pid" },   { CLONE_NEWNET, "net" },
	{ CLONE_NEWIPC, "ipc" },       { CLONE_NEWUTS, "uts" },   { CLONE_NEWNS, "mnt" },
	{ CLONE_NEWCGROUP, "cgroup" }, { CLONE_NEWTIME, "time" },
};

static struct clone_args kernel_args(struct ns_clone *args)
{
	struct clone_args clone_args = {
		.flags = args->flags | CLONE_PIDFD,
		.pidfd = (uint64_t) (uintptr_t) &args->pidfd,
		.exit_signal = args->flags & CLONE_PARENT ? 0 : SIGCHLD,
	};

	if (args->cgroup_fd >= 0) {
		clone_args.flags |= CLONE_INTO_CGROUP;
		clone_args.cgroup = (uint64_t) args->cgroup_fd;
	}
	return clone_args;
}

pid_t ns_clone(struct ns_clone *args)
{
	struct clone_args clone_args = kernel_args(args);
	long pid = syscall(SYS_clone3, &clone_args, sizeof(clone_args));

	return pid < 0 ? -errno : (pid_t) pid;
}

/*
 * The child goes on below this frame of our own stack, so it must not come back through it: the
 * system call is made here and not in a function that would return twice.
 */
static __attribute__((noinline)) long vfork_into(struct clone_args *args, void (*run)(void *data),
						 void *data)
{
	long pid;

#if defined(__x86_64__)
	__asm__ volatile("syscall"
			 : "=a"(pid)
			 : "0"(SYS_clone3), "D"(args), "S"(sizeof(*args))
			 : "rcx", "r11", "memory");
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = SYS_clone3;
	register long x0 __asm__("x0") = (long) args;
	register long x1 __asm__("x1") = sizeof(*args);

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x1), "r"(x8) : "memory");
	pid = x0;
#else
#error "say how a system call is made on this machine"
#endif
	if (pid == 0) {
		run(data);
		_exit(0);
	}
	return pid;
}

pid_t ns_vfork(struct ns_clone *args, void (*run)(void *data), void *data)
{
	struct clone_args clone_args = kernel_args(args);

	clone_args.flags |= CLONE_VM | CLONE_VFORK;
	return (pid_t) vfork_into(&clone_args, run, data);
}

const char *ns_file_name(uint64_t flag)
{
	for (size_t i = 0; i < ARRAY_COUNT(kinds); i++)
		if (kinds[i].flag == flag)
			return kinds[i].file;
	return NULL;
}

int ns_open(const char *path, uint64_t flag)
{
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int type;

	if (fd < 0)
		return -errno;
	type = ioctl(fd, NS_GET_NSTYPE);
	if (type < 0)
		return errno == ENOTTY ? -EINVAL : -errno;
	if ((uint64_t) type != flag)
		return -EINVAL;
	return TAKE_FD(fd);
}

int ns_open_own(uint64_t flag)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/self/ns/%s", ns_file_name(flag));
	return ns_open(path, flag);
}

int ns_differing(pid_t pid, uint64_t flags, uint64_t *ret)
{
	AUTO(fd_close) int own_dir = open("/proc/self/ns", O_PATH | O_DIRECTORY | O_CLOEXEC);
	AUTO(fd_close) int other_dir = -1;
	struct stat own, other;
	uint64_t found = 0;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/ns", (int) pid);
	other_dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (own_dir < 0 || other_dir < 0)
		return -errno;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (!(flags & kinds[i].flag))
			continue;
		if (fstatat(own_dir, kinds[i].file, &own, 0) < 0) {
			if (errno == ENOENT)
				continue; /* a kernel without this kind */
			return -errno;
		}
		if (fstatat(other_dir, kinds[i].file, &other, 0) < 0)
			return -errno;
		if (own.st_dev != other.st_dev || own.st_ino != other.st_ino)
			found |= kinds[i].flag;
	}
	*ret = found;
	return 0;
}

int ns_differs(pid_t pid, uint64_t flag)
{
	uint64_t found;
	int r = ns_differing(pid, flag, &found);

	return r < 0 ? r : found != 0;
}

static int write_map(pid_t pid, const char *file, const struct ns_id_map *maps, unsigned int count)
{
	AUTO(strbuf_done) struct strbuf text = {};
	char path[48];

	for (unsigned int i = 0; i < count; i++)
		strbuf_printf(&text, "%u %u %u\n", maps[i].inside, maps[i].outside, maps[i].size);
	snprintf(path, sizeof(path), "/proc/%d/%s", (int) pid, file);
	return file_write_kernel(AT_FDCWD, path, strbuf_str(&text));
}

int ns_write_id_maps(pid_t pid, const struct ns_id_map *uids, unsigned int uid_count,
		     const struct ns_id_map *gids, unsigned int gid_count)
{
	int r = write_map(pid, "uid_map", uids, uid_count);

	return r < 0 ? r : write_map(pid, "gid_map", gids, gid_count);
}

int ns_write_time_offset(const char *clock, int64_t secs, uint32_t nanosecs)
{
	char text[80];

	snprintf(text, sizeof(text), "%s %lld %u", clock, (long long) secs, nanosecs);
	return file_write_kernel(AT_FDCWD, "/proc/self/timens_offsets", text);
}
