#include "agent/seccomp_default.h"

#include <errno.h>
#include <linux/sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "base/capname.h"
#include "base/cleanup.h"

/*
 * Everything that a program may do to itself, its files and its sockets.  Not here, on purpose:
 * mounts and namespaces, modules, kexec, swap, clocks, keyrings, bpf, perf, userfaultfd, io_uring
 * (a queue that filters cannot look into), quotas, raw hardware ports.
 */
/* clang-format off */
static const char *const allowed[] = {
	/* files */
	"access", "chdir", "chmod", "chown", "chown32", "close", "close_range", "copy_file_range",
	"creat", "dup", "dup2", "dup3", "faccessat", "faccessat2", "fadvise64", "fadvise64_64",
	"fallocate", "fchdir", "fchmod", "fchmodat", "fchown", "fchown32", "fchownat", "fcntl",
	"fcntl64", "fdatasync", "fgetxattr", "flistxattr", "flock", "fremovexattr", "fsetxattr",
	"fstat", "fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync", "ftruncate",
	"ftruncate64", "futimesat", "getcwd", "getdents", "getdents64", "getxattr",
	"inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel",
	"io_destroy", "io_getevents", "io_setup", "io_submit", "ioctl", "lchown",
	"lchown32", "lgetxattr", "link", "linkat", "listxattr", "llistxattr", "_llseek",
	"lremovexattr", "lseek", "lsetxattr", "lstat", "lstat64", "mkdir", "mkdirat", "mknod",
	"mknodat", "name_to_handle_at", "newfstatat", "_newselect", "open", "openat", "openat2",
	"pipe", "pipe2", "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read",
	"readahead", "readlink", "readlinkat", "readv", "removexattr", "rename", "renameat",
	"renameat2", "rmdir", "sendfile", "sendfile64", "setxattr", "splice", "stat", "stat64",
	"statfs", "statfs64", "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs",
	"tee", "truncate", "truncate64", "umask", "unlink", "unlinkat", "utime", "utimensat",
	"utimensat_time64", "utimes", "write", "writev",
	/* waiting */
	"epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait",
	"epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "poll", "ppoll",
	"ppoll_time64", "pselect6", "pselect6_time64", "select", "signalfd", "signalfd4",
	"timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime",
	"timerfd_settime64",
	/* memory */
	"brk", "get_mempolicy", "madvise", "mbind", "membarrier", "memfd_create", "memfd_secret",
	"mincore", "mlock", "mlock2", "mlockall", "mmap", "mmap2", "mprotect", "mremap", "msync",
	"munlock", "munlockall", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect",
	"process_mrelease", "process_vm_readv", "process_vm_writev",
	"remap_file_pages", "set_mempolicy", "shmat", "shmctl", "shmdt", "shmget",
	/* processes, threads, users */
	"alarm", "arch_prctl", "capget", "capset", "execve", "execveat", "exit", "exit_group",
	"fork", "futex", "futex_time64", "futex_waitv", "getcpu", "getegid", "getegid32",
	"geteuid", "geteuid32", "getgid", "getgid32", "getgroups", "getgroups32", "getitimer",
	"getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom", "getresgid",
	"getresgid32", "getresuid", "getresuid32", "getrlimit", "get_robust_list", "getrusage",
	"getsid", "get_thread_area", "gettid", "getuid", "getuid32", "ioprio_get", "ioprio_set",
	"kill", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self",
	"modify_ldt", "nanosleep", "pause", "pidfd_getfd", "pidfd_open", "pidfd_send_signal",
	"prctl", "prlimit64", "ptrace", "restart_syscall", "rseq", "rt_sigaction", "rt_sigpending",
	"rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
	"rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sched_getaffinity", "sched_getattr",
	"sched_getparam", "sched_get_priority_max", "sched_get_priority_min", "sched_getscheduler",
	"sched_rr_get_interval", "sched_rr_get_interval_time64", "sched_setaffinity",
	"sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield", "seccomp",
	"setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups",
	"setgroups32", "setitimer", "setpgid", "setpriority", "setregid", "setregid32",
	"setresgid", "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32",
	"setrlimit", "set_robust_list", "setsid", "set_thread_area", "set_tid_address", "setuid",
	"setuid32", "sigaltstack", "sigprocmask", "sigreturn", "sysinfo", "tgkill", "time",
	"times", "tkill", "ugetrlimit", "uname", "vfork", "wait4", "waitid", "waitpid",
	/* clocks and timers: read, never set */
	"adjtimex", "clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64",
	"clock_gettime", "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64",
	"gettimeofday", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime",
	"timer_gettime64", "timer_settime", "timer_settime64",
	/* sockets and System V, POSIX messages */
	"accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "ipc",
	"listen", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive",
	"mq_timedreceive_time64", "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "msgctl",
	"msgget", "msgrcv", "msgsnd", "recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg",
	"semctl", "semget", "semop", "semtimedop", "semtimedop_time64", "send", "sendmmsg",
	"sendmsg", "sendto", "setsockopt", "shutdown", "socketcall", "socketpair",
};
/* clang-format on */

/*
 * Known and refused, whatever the instance may do.  What is in no list is answered with ENOSYS, so
 * that programs fall back from calls that are newer than these.
 */
/* clang-format off */
static const char *const refused[] = {
	"add_key", "create_module", "get_kernel_syms", "io_pgetevents", "io_uring_enter",
	"io_uring_register", "io_uring_setup", "kexec_file_load", "kexec_load", "keyctl",
	"migrate_pages", "move_pages", "nfsservctl", "pivot_root", "query_module", "request_key",
	"swapoff", "swapon", "_sysctl", "uselib", "userfaultfd", "ustat", "vm86", "vm86old",
	"vmsplice",
};

/* Refused, unless the instance was given the capability that they are for. */
static const struct {
	const char *capability;
	const char *names[26];
} conditional[] = {
	{ "CAP_BPF", { "bpf" } },
	{ "CAP_DAC_READ_SEARCH", { "open_by_handle_at" } },
	{ "CAP_PERFMON", { "perf_event_open" } },
	{ "CAP_SYSLOG", { "syslog" } },
	{ "CAP_SYS_ADMIN",
	  { "bpf", "fanotify_init", "fanotify_mark", "fsconfig", "fsmount", "fsopen", "fspick",
	    "lookup_dcookie", "mount", "mount_setattr", "move_mount", "open_tree",
	    "perf_event_open", "quotactl", "quotactl_fd", "setdomainname", "sethostname", "setns",
	    "syslog", "umount", "umount2", "unshare" } },
	{ "CAP_SYS_BOOT", { "reboot" } },
	{ "CAP_SYS_CHROOT", { "chroot" } },
	{ "CAP_SYS_MODULE", { "delete_module", "finit_module", "init_module" } },
	{ "CAP_SYS_PACCT", { "acct" } },
	{ "CAP_SYS_PTRACE", { "kcmp", "process_madvise" } },
	{ "CAP_SYS_RAWIO", { "ioperm", "iopl" } },
	{ "CAP_SYS_TIME", { "clock_settime", "clock_settime64", "settimeofday", "stime" } },
	{ "CAP_SYS_TTY_CONFIG", { "vhangup" } },
};
/* clang-format on */

static json_t *strings(const char *const *list, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(array, json_string(list[i]));
	return array;
}

static void add_rule(json_t *rules, json_t *names, const char *action, int errno_ret, json_t *args)
{
	json_t *rule = json_pack("{s:o, s:s}", "names", names, "action", action);

	if (errno_ret)
		json_object_set_new(rule, "errnoRet", json_integer(errno_ret));
	if (args)
		json_object_set_new(rule, "args", args);
	json_array_append_new(rules, rule);
}

static void add_compare(json_t *rules, const char *name, unsigned int index, uint64_t value,
			uint64_t mask_result, const char *op)
{
	json_t *arg =
		json_pack("{s:i, s:I, s:s}", "index", index, "value", (json_int_t) value, "op", op);

	if (mask_result != UINT64_MAX)
		json_object_set_new(arg, "valueTwo", json_integer((json_int_t) mask_result));
	add_rule(rules, json_pack("[s]", name), "SCMP_ACT_ALLOW", 0, json_pack("[o]", arg));
}

static bool has(uint64_t capabilities, const char *name)
{
	return capabilities & UINT64_C(1) << capname_number(name);
}

/* Whether one of the first rows has the name, for a capability that is among these. */
static bool in_rows(size_t rows, const char *name, uint64_t capabilities)
{
	for (size_t i = 0; i < rows; i++)
		for (const char *const *one = conditional[i].names; *one; one++)
			if (strcmp(*one, name) == 0 && has(capabilities, conditional[i].capability))
				return true;
	return false;
}

static void add_capability_rules(json_t *rules, uint64_t capabilities)
{
	json_t *given = json_array(), *denied = json_array();

	for (size_t i = 0; i < ARRAY_COUNT(conditional); i++) {
		for (const char *const *name = conditional[i].names; *name; name++) {
			bool allow = in_rows(ARRAY_COUNT(conditional), *name, capabilities);

			if (!in_rows(i, *name, UINT64_MAX))
				json_array_append_new(allow ? given : denied, json_string(*name));
		}
	}
	if (json_array_size(given))
		add_rule(rules, given, "SCMP_ACT_ALLOW", 0, NULL);
	else
		json_decref(given);
	add_rule(rules, denied, "SCMP_ACT_ERRNO", EPERM, NULL);
}

/* Calls whose meaning hangs on an argument. */
static void add_argument_rules(json_t *rules, uint64_t capabilities)
{
	/* Personalities that change nothing about addresses: native, 32-bit uname, query. */
	static const uint32_t personalities[] = { 0x0, 0x8, 0x20000, 0x20008, 0xffffffff };
	static const int families[] = { AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET };
	const uint64_t namespaces = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
				    CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP;

	for (size_t i = 0; i < ARRAY_COUNT(personalities); i++)
		add_compare(rules, "personality", 0, personalities[i], UINT64_MAX, "SCMP_CMP_EQ");

	/*
	 * What networks are made of.  Not the rest, which is kernel code that no server needs
	 * (AF_ALG), or ways to the host (AF_VSOCK).  Masked, because the kernel looks at the lower
	 * half of the register only, and a comparison would look at all of it.
	 */
	for (size_t i = 0; i < ARRAY_COUNT(families); i++)
		add_compare(rules, "socket", 0, UINT32_MAX, families[i], "SCMP_CMP_MASKED_EQ");

	/* Threads and children, but no new namespaces; clone3 hides its flags in memory. */
	if (has(capabilities, "CAP_SYS_ADMIN")) {
		add_rule(rules, json_pack("[s, s]", "clone", "clone3"), "SCMP_ACT_ALLOW", 0, NULL);
		return;
	}
	add_compare(rules, "clone", 0, namespaces, 0, "SCMP_CMP_MASKED_EQ");
	add_rule(rules, json_pack("[s]", "clone3"), "SCMP_ACT_ERRNO", ENOSYS, NULL);
}

json_t *seccomp_default(uint64_t capabilities)
{
	json_t *rules = json_array();
	json_t *architectures;

	add_rule(rules, strings(allowed, ARRAY_COUNT(allowed)), "SCMP_ACT_ALLOW", 0, NULL);
	add_rule(rules, strings(refused, ARRAY_COUNT(refused)), "SCMP_ACT_ERRNO", EPERM, NULL);
	add_capability_rules(rules, capabilities);
	add_argument_rules(rules, capabilities);
#if defined(__x86_64__)
	architectures =
		json_pack("[s, s, s]", "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32");
#elif defined(__aarch64__)
	architectures = json_pack("[s, s]", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM");
#else
#error "say which architectures the default seccomp profile covers on this machine"
#endif
	return json_pack("{s:s, s:i, s:o, s:o}", "defaultAction", "SCMP_ACT_ERRNO",
			 "defaultErrnoRet", ENOSYS, "architectures", architectures, "syscalls",
			 rules);
}
