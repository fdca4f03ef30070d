#include "image/sandbox_internal.h"

#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"

enum { FILE_MAX = 16 << 20, OPEN_FILES_MAX = 4096, THREADS_MAX = 256 };

DEFINE_AUTO(cap_t, cap_free)
DEFINE_AUTO(scmp_filter_ctx, seccomp_release)

#define TRUSTED "/etc/ssl/certs/ca-certificates.crt"

/* What resolving names and checking certificates reads. */
static const char *const network_files[] = {
	"/etc/resolv.conf", "/etc/hosts",    "/etc/nsswitch.conf",
	"/etc/host.conf",   "/etc/gai.conf", TRUSTED,
};

/* Who is trusted may be said in the environment, as OpenSSL and Go have it. */
static const char *source_of(const char *path)
{
	const char *given = strcmp(path, TRUSTED) == 0 ? getenv("SSL_CERT_FILE") : NULL;

	return given && given[0] ? given : path;
}

static int copy_file(const char *path, int root_fd, struct error *err)
{
	AUTO(free) char *text = NULL;
	size_t size;
	int r = file_read(AT_FDCWD, source_of(path), FILE_MAX, &text, &size);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return error_set(err, r, "%s", source_of(path));
	AUTO(fd_close) int fd = openat(root_fd, path + 1, O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
	if (fd < 0)
		return error_set(err, -errno, "copy %s", path);
	r = file_write_all(fd, text, size);
	return r < 0 ? error_set(err, r, "copy %s", path) : 0;
}

/* What a worker with a folder of its own finds in its root. */
static int fill_root(int root_fd, bool network, struct error *err)
{
	static const char *const folders[] = { "job", "etc", "etc/ssl", "etc/ssl/certs" };

	for (size_t i = 0; i < ARRAY_COUNT(folders); i++)
		if (mkdirat(root_fd, folders[i], 0755) < 0)
			return error_set(err, -errno, "sandbox: %s", folders[i]);
	for (size_t i = 0; network && i < ARRAY_COUNT(network_files); i++) {
		int r = copy_file(network_files[i], root_fd, err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int make_root(int *ret_fd, struct error *err)
{
	AUTO(fd_close) int fs_fd = fsopen("tmpfs", FSOPEN_CLOEXEC);

	if (fs_fd < 0 || fsconfig(fs_fd, FSCONFIG_SET_STRING, "mode", "0755", 0) < 0 ||
	    fsconfig(fs_fd, FSCONFIG_SET_STRING, "size", "32m", 0) < 0 ||
	    fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return error_set(err, -errno, "sandbox: tmpfs");
	*ret_fd = fsmount(fs_fd, FSMOUNT_CLOEXEC,
			  MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	return *ret_fd < 0 ? error_set(err, -errno, "sandbox: tmpfs") : 0;
}

/* In a mount namespace of its own; the mount `job_fd`, if any, becomes /job. */
static int pivot(int root_fd, int job_fd, struct error *err)
{
	struct mount_attr read_only = { .attr_set = MOUNT_ATTR_RDONLY };

	/* The new root needs a place while the old one still stands; /proc is everywhere. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    move_mount(root_fd, "", AT_FDCWD, "/proc", MOVE_MOUNT_F_EMPTY_PATH) < 0 ||
	    (job_fd >= 0 && move_mount(job_fd, "", root_fd, "job", MOVE_MOUNT_F_EMPTY_PATH) < 0) ||
	    mount_setattr(root_fd, "", AT_EMPTY_PATH, &read_only, sizeof(read_only)) < 0 ||
	    fchdir(root_fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
	    umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return error_set(err, -errno, "sandbox: root folder");
	return 0;
}

static int enter_root(const struct sandbox *sandbox, struct error *err)
{
	struct mount_attr harmless = { .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
						   MOUNT_ATTR_NOEXEC };
	AUTO(fd_close) int root_fd = -1;
	/* While we are still in the mount namespace that the folder is in. */
	AUTO(fd_close)
	int job_fd = open_tree(sandbox->work_fd, "",
			       AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	int r;

	if (job_fd < 0)
		return error_set(err, -errno, "sandbox: job folder");
	r = make_root(&root_fd, err);
	if (r == 0)
		r = fill_root(root_fd, sandbox->network, err);
	if (r < 0)
		return r;
	if (mount_setattr(job_fd, "", AT_EMPTY_PATH, &harmless, sizeof(harmless)) < 0)
		return error_set(err, -errno, "sandbox: job folder");
	if (unshare(CLONE_NEWNS | (sandbox->network ? 0 : CLONE_NEWNET)) < 0)
		return error_set(err, -errno, "sandbox: namespaces");
	return pivot(root_fd, job_fd, err);
}

/* Nothing at all: what the worker may see it has as descriptors. */
static int enter_empty_root(struct error *err)
{
	AUTO(fd_close) int root_fd = -1;
	int r = make_root(&root_fd, err);

	if (r < 0)
		return r;
	if (unshare(CLONE_NEWNS) < 0)
		return error_set(err, -errno, "sandbox: namespaces");
	return pivot(root_fd, -1, err);
}

static int become_layer_root(const struct sandbox *sandbox, struct error *err)
{
	int r;

	if (unshare(CLONE_NEWUSER) < 0)
		return error_set(err, -errno, "sandbox: user namespace");
	r = sandbox->wait_for_maps(sandbox->data, err);
	if (r < 0)
		return r;
	if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return error_set(err, -errno, "sandbox: user 0 of the layers");
	return 0;
}

/* What writing a tree needs, and what reading one that belongs to many needs. */
static const cap_value_t writer_caps[] = { CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID,
					   CAP_SETFCAP };
static const cap_value_t reader_caps[] = { CAP_DAC_READ_SEARCH,
					   CAP_SYS_ADMIN /* attributes trusted.overlay.* */ };

static int drop_capabilities(const cap_value_t *kept, int count, struct error *err)
{
	AUTO(cap_free) cap_t caps = cap_init();

	for (cap_value_t cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (prctl(PR_CAPBSET_DROP, cap) < 0 && errno != EINVAL)
			return error_set(err, -errno, "sandbox: capabilities");
	if (!caps || cap_set_flag(caps, CAP_PERMITTED, count, kept, CAP_SET) < 0 ||
	    cap_set_flag(caps, CAP_EFFECTIVE, count, kept, CAP_SET) < 0 || cap_set_proc(caps) < 0)
		return error_set(err, -errno, "sandbox: capabilities");
	return 0;
}

static const int allowed_calls[] = {
	/* files */
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(readv),
	SCMP_SYS(writev),
	SCMP_SYS(pread64),
	SCMP_SYS(pwrite64),
	SCMP_SYS(open),
	SCMP_SYS(openat),
	SCMP_SYS(openat2),
	SCMP_SYS(close),
	SCMP_SYS(fstat),
	SCMP_SYS(stat),
	SCMP_SYS(lstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(statx),
	SCMP_SYS(lseek),
	SCMP_SYS(ftruncate),
	SCMP_SYS(fallocate),
	SCMP_SYS(fchmod),
	SCMP_SYS(fchown),
	SCMP_SYS(fchownat),
	SCMP_SYS(utimensat),
	SCMP_SYS(mkdirat),
	SCMP_SYS(mknodat),
	SCMP_SYS(symlinkat),
	SCMP_SYS(linkat),
	SCMP_SYS(unlink),
	SCMP_SYS(unlinkat),
	SCMP_SYS(renameat),
	SCMP_SYS(renameat2),
	SCMP_SYS(fsetxattr),
	SCMP_SYS(fgetxattr),
	SCMP_SYS(flistxattr),
	SCMP_SYS(readlink),
	SCMP_SYS(readlinkat),
	SCMP_SYS(getdents64),
	SCMP_SYS(access),
	SCMP_SYS(faccessat),
	SCMP_SYS(faccessat2),
	SCMP_SYS(dup),
	SCMP_SYS(fcntl),
	SCMP_SYS(umask),
	SCMP_SYS(fadvise64),
	SCMP_SYS(getcwd),
	SCMP_SYS(fsync),
	SCMP_SYS(fdatasync),
	SCMP_SYS(statfs),
	SCMP_SYS(fstatfs),
	/* memory, threads, signals, time */
	SCMP_SYS(mmap),
	SCMP_SYS(munmap),
	SCMP_SYS(mprotect),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(brk),
	SCMP_SYS(futex),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(sched_yield),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(gettid),
	SCMP_SYS(getpid),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(time),
	SCMP_SYS(getrandom),
	SCMP_SYS(getuid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getegid),
	SCMP_SYS(uname),
	SCMP_SYS(sysinfo),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(getrlimit),
	SCMP_SYS(membarrier),
	/* waiting, and the pipe to the parent */
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(select),
	SCMP_SYS(pselect6),
	SCMP_SYS(eventfd2),
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(pipe2),
	SCMP_SYS(pipe),
	SCMP_SYS(sendto),
	SCMP_SYS(recvfrom),
	SCMP_SYS(recvmsg),
};

static const int network_calls[] = {
	SCMP_SYS(connect),    SCMP_SYS(bind),       SCMP_SYS(getsockname), SCMP_SYS(getpeername),
	SCMP_SYS(setsockopt), SCMP_SYS(getsockopt), SCMP_SYS(sendmsg),     SCMP_SYS(sendmmsg),
	SCMP_SYS(shutdown),   SCMP_SYS(recvmmsg),
};

/* What the C library's start and the makers of file systems need beside that. */
static const int program_calls[] = {
	SCMP_SYS(set_tid_address), SCMP_SYS(getxattr),   SCMP_SYS(lgetxattr),
	SCMP_SYS(listxattr),       SCMP_SYS(llistxattr), SCMP_SYS(chdir),
	SCMP_SYS(fchdir),          SCMP_SYS(dup2),       SCMP_SYS(rmdir),
};

static const int waiter_calls[] = { SCMP_SYS(wait4), SCMP_SYS(waitid) };

static int allow(scmp_filter_ctx filter, const int *calls, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);

		if (r < 0)
			return r;
	}
	return 0;
}

/* Threads, but no processes and no namespaces; what was not foreseen fails with EPERM. */
static int build_filter(scmp_filter_ctx filter, bool network)
{
	static const int families[] = { AF_INET, AF_INET6, AF_NETLINK };
	int r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);

	if (r == 0)
		r = allow(filter, allowed_calls, ARRAY_COUNT(allowed_calls));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
				     SCMP_A0(SCMP_CMP_MASKED_EQ,
					     CLONE_VM | CLONE_THREAD | CLONE_NEWUSER | CLONE_NEWNS |
						     CLONE_NEWNET | CLONE_NEWPID,
					     CLONE_VM | CLONE_THREAD));
	/* The C library then uses clone(), whose flags can be seen. */
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				     SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t) getpid()));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
				     SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1,
				     SCMP_A0(SCMP_CMP_EQ, 0 /* its own */));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				     SCMP_A1(SCMP_CMP_EQ, 0x5421 /* FIONBIO */));
	if (r < 0 || !network)
		return r;
	r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 1,
			     SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
	for (size_t i = 0; r == 0 && i < ARRAY_COUNT(families); i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
				     SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t) families[i]));
	return r < 0 ? r : allow(filter, network_calls, ARRAY_COUNT(network_calls));
}

static int build_program_filter(scmp_filter_ctx filter, const char *path)
{
	int r = allow(filter, program_calls, ARRAY_COUNT(program_calls));

	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(execve), 1,
				     SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t) (uintptr_t) path));
	return r < 0 ? r
		     : seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(arch_prctl), 1,
					SCMP_A0(SCMP_CMP_EQ, ARCH_SET_FS));
}

enum caller { CALLER_WORKER, CALLER_WORKER_NETWORK, CALLER_WAITER, CALLER_PROGRAM };

/* `path`: CALLER_PROGRAM only. */
static int limit_calls(enum caller caller, const char *path, struct error *err)
{
	AUTO(seccomp_release) scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r;

	if (!filter)
		return error_set(err, -ENOMEM, "sandbox: seccomp");
	r = build_filter(filter, caller == CALLER_WORKER_NETWORK);
	if (r == 0 && caller == CALLER_WAITER)
		r = allow(filter, waiter_calls, ARRAY_COUNT(waiter_calls));
	if (r == 0 && caller == CALLER_PROGRAM)
		r = build_program_filter(filter, path);
	if (r == 0)
		r = seccomp_load(filter);
	return r < 0 ? error_set(err, r, "sandbox: seccomp") : 0;
}

int sandbox_limit_waiter(struct error *err)
{
	return limit_calls(CALLER_WAITER, NULL, err);
}

int sandbox_limit_program(const char *path, struct error *err)
{
	return limit_calls(CALLER_PROGRAM, path, err);
}

static int set_limit(int resource, rlim_t value, struct error *err)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) < 0)
		return error_set(err, -errno, "sandbox: limits");
	if (limit.rlim_max > value)
		limit.rlim_max = value;
	limit.rlim_cur = limit.rlim_max;
	return setrlimit(resource, &limit) < 0 ? error_set(err, -errno, "sandbox: limits") : 0;
}

int sandbox_limit_files(uint64_t bytes, struct error *err)
{
	return set_limit(RLIMIT_FSIZE, bytes, err);
}

static int set_limits(struct error *err)
{
	int r = set_limit(RLIMIT_NOFILE, OPEN_FILES_MAX, err);

	if (r == 0)
		r = set_limit(RLIMIT_CORE, 0, err);
	if (r == 0)
		r = set_limit(RLIMIT_NPROC, THREADS_MAX, err);
#ifndef __SANITIZE_ADDRESS__ /* which maps terabytes that it does not use */
	if (r == 0)
		r = set_limit(RLIMIT_DATA, (rlim_t) 3 << 30, err);
#endif
	return r;
}

static void prepare_process(void)
{
	umask(0);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
}

static int close_sandbox(const cap_value_t *kept, int count, bool network, struct error *err)
{
	int r;

	/* Only now: a change of user takes it back. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set(err, -errno, "sandbox");
	r = set_limits(err);
	if (r == 0)
		r = drop_capabilities(kept, count, err);
	return r < 0 ? r : limit_calls(network ? CALLER_WORKER_NETWORK : CALLER_WORKER, NULL, err);
}

int sandbox_enter(const struct sandbox *sandbox, struct error *err)
{
	int r;

	prepare_process();
	r = enter_root(sandbox, err);
	if (r == 0)
		r = become_layer_root(sandbox, err);
	if (r < 0)
		return r;
	return close_sandbox(writer_caps, ARRAY_COUNT(writer_caps), sandbox->network, err);
}

int sandbox_enter_instance(int userns_fd, struct error *err)
{
	int r;

	prepare_process();
	r = enter_empty_root(err);
	if (r < 0)
		return r;
	if (setns(userns_fd, CLONE_NEWUSER) < 0 || setgroups(0, NULL) < 0 ||
	    setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return error_set(err, -errno, "sandbox: user 0 of the instance");
	close(userns_fd);
	return close_sandbox(writer_caps, ARRAY_COUNT(writer_caps), false, err);
}

int sandbox_enter_reader(struct error *err)
{
	int r;

	prepare_process();
	r = enter_empty_root(err);
	if (r < 0)
		return r;
	return close_sandbox(reader_caps, ARRAY_COUNT(reader_caps), false, err);
}
