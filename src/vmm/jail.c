#include "vmm/jail.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "kern/seccomp.h"

enum {
	PROGRAM_MAX = 128,
	IOCTL_TYPE_KVM = 0xae,
	DATA_NR = offsetof(struct seccomp_data, nr),
	DATA_ARCH = offsetof(struct seccomp_data, arch),
	DATA_ARG1 = offsetof(struct seccomp_data, args[1]), /* its low half */
};

/* What the C library needs for locks, memory, signals and the end of a thread. */
#define COMMON                                                                                     \
	SYS_futex, SYS_write, SYS_mmap, SYS_munmap, SYS_mprotect, SYS_madvise, SYS_brk,            \
		SYS_rt_sigreturn, SYS_rt_sigprocmask, SYS_exit, SYS_exit_group, SYS_clock_gettime, \
		SYS_restart_syscall

/* What a thread with a loop (vmm/loop.h) needs. */
#define LOOP COMMON, SYS_ioctl, SYS_epoll_pwait2, SYS_epoll_ctl, SYS_read, SYS_close

static const int cpu_calls[] = { SYS_ioctl, COMMON };

static const int main_calls[] = {
	LOOP,
	SYS_accept4,
	SYS_recvmsg,
	SYS_sendto,
	SYS_eventfd2, /* of a device that is added */
	/* a restart: memory, kernel and initramfs anew; counters */
	SYS_fallocate,
	SYS_pread64,
	SYS_sendfile,
	SYS_newfstatat,
	SYS_fstat,
	SYS_lseek,
	/* the end: other threads, descriptors as they were */
	SYS_tgkill,
	SYS_getpid,
	SYS_fcntl,
	SYS_mremap,
};

static const int io_calls[] = {
	LOOP,
	/* disks; with an io_uring, one more gives nothing that it does not give already */
	SYS_io_uring_enter,
	SYS_io_uring_setup,
	SYS_io_uring_register,
	SYS_preadv,
	SYS_preadv2,
	SYS_pwritev,
	SYS_pwritev2,
	SYS_fdatasync,
	SYS_fallocate,
	SYS_fstat,
	SYS_newfstatat,
	/* cards, ports */
	SYS_readv,
	SYS_writev,
	SYS_fcntl,
	SYS_getrandom,
	/* vsock */
	SYS_accept4,
	SYS_socket,
	SYS_connect,
	SYS_recvfrom,
	SYS_sendto,
	SYS_sendmsg,
	SYS_shutdown,
};

static const struct {
	const int *calls;
	unsigned int count;
} kinds[] = {
	[JAIL_MAIN] = { main_calls, ARRAY_COUNT(main_calls) },
	[JAIL_IO] = { io_calls, ARRAY_COUNT(io_calls) },
	[JAIL_CPU] = { cpu_calls, ARRAY_COUNT(cpu_calls) },
};

unsigned int jail_call_count(enum jail_thread kind)
{
	return kinds[kind].count;
}

/*
 * One comparison for each call: these lists are short, the most frequent calls stand first, and
 * building it takes no library and no time.
 */
static unsigned int build(enum jail_thread kind, struct sock_filter *program)
{
	const struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	const struct sock_filter kill = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	unsigned int n = 0;

	program[n++] = (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, DATA_ARCH);
	program[n++] =
		(struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	program[n++] = kill;
	program[n++] = (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, DATA_NR);
	for (unsigned int i = 0; i < kinds[kind].count; i++) {
		uint32_t nr = (uint32_t) kinds[kind].calls[i];

		if (nr == SYS_ioctl && kind == JAIL_CPU) {
			program[n++] =
				(struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 5);
			program[n++] =
				(struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, DATA_ARG1);
			program[n++] =
				(struct sock_filter) BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff00);
			program[n++] = (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
								     IOCTL_TYPE_KVM << 8, 1, 0);
			program[n++] = kill;
			program[n++] = allow;
		} else {
			program[n++] =
				(struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1);
			program[n++] = allow;
		}
	}
	program[n++] = kill;
	return n;
}

/* No rule: nothing below any folder may be opened, made or removed. */
static int close_files(struct error *err)
{
	struct landlock_ruleset_attr attr = {
		.handled_access_fs = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |
				     LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |
				     LANDLOCK_ACCESS_FS_REMOVE_DIR |
				     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
				     LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
				     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
				     LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM,
	};
	AUTO(fd_close) int fd = (int) syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);

	if (fd < 0)
		/* A kernel without it; system calls are limited all the same. */
		return errno == ENOSYS || errno == EOPNOTSUPP
			       ? 0
			       : error_set(err, -errno, "making a Landlock ruleset");
	if (syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		return error_set(err, -errno, "giving files up (Landlock)");
	return 0;
}

int jail_process(struct error *err)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set(err, -errno, "no new privileges");
	return close_files(err);
}

int jail_thread(enum jail_thread kind, struct error *err)
{
	struct sock_filter program[PROGRAM_MAX];
	struct seccomp_filter filter = { .program = program };
	int r;

	filter.size = build(kind, program) * sizeof(program[0]);
	r = seccomp_filter_load(&filter);
	return r < 0 ? error_set(err, r, "limiting system calls") : 0;
}
