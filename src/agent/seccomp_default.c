#include "agent/seccomp_default.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/mem.h"

/* Separated by blanks; what a kernel or libseccomp does not know is left out by the runtime. */
static const char allowed[] =
	"accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown "
	"chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime "
	"clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect "
	"copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old "
	"epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit "
	"exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir "
	"fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr "
	"flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 "
	"fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv "
	"futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 "
	"getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer "
	"getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 "
	"getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid "
	"gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init "
	"inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents "
	"io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill "
	"landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 "
	"lgetxattr "
	"link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek "
	"lsetxattr "
	"lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir "
	"mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify "
	"mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink "
	"mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap "
	"name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_getfd pidfd_open "
	"pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 "
	"prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv "
	"process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read "
	"readahead "
	"readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages "
	"removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq "
	"rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend "
	"rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max "
	"sched_get_priority_min sched_getaffinity sched_getattr sched_getparam "
	"sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity "
	"sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget "
	"semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto "
	"set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 "
	"setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 "
	"setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid "
	"setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown "
	"sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat "
	"stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs "
	"sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime "
	"timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime "
	"timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 "
	"ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes "
	"vfork vmsplice wait4 waitid waitpid write writev arch_prctl modify_ldt chroot";

enum {
	PER_LINUX = 0x0000,
	PER_LINUX32 = 0x0008,
	UNAME26 = 0x0020000,
	PER_QUERY = 0xffffffff,
	AF_VSOCK_NUMBER = 40,
};

static json_t *rule(const char *name, const char *action, json_t *args)
{
	json_t *object = json_pack("{s:[s], s:s}", "names", name, "action", action);

	if (args)
		json_object_set_new(object, "args", json_pack("[o]", args));
	return object;
}

static json_t *argument(unsigned int index, const char *op, json_int_t value, json_int_t value_two)
{
	return json_pack("{s:i, s:I, s:I, s:s}", "index", (int) index, "value", value, "valueTwo",
			 value_two, "op", op);
}

static json_t *refuse(const char *name, int error_number)
{
	json_t *object = rule(name, "SCMP_ACT_ERRNO", NULL);

	json_object_set_new(object, "errnoRet", json_integer(error_number));
	return object;
}

static json_t *allowed_names(void)
{
	AUTO(free) char *copy = mem_strdup(allowed);
	json_t *names = json_array();
	char *rest = copy, *name;

	while ((name = strsep(&rest, " ")))
		json_array_append_new(names, json_string(name));
	return names;
}

json_t *seccomp_default(void)
{
	static const json_int_t personalities[] = { PER_LINUX, PER_LINUX32, UNAME26,
						    PER_LINUX32 | UNAME26, PER_QUERY };
	/* Every namespace but the time one, whose bit clone() uses for the exit signal. */
	const json_int_t namespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
				      CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
	json_t *rules = json_array();

	json_array_append_new(rules, json_pack("{s:o, s:s}", "names", allowed_names(), "action",
					       "SCMP_ACT_ALLOW"));
	for (size_t i = 0; i < ARRAY_COUNT(personalities); i++)
		json_array_append_new(rules, rule("personality", "SCMP_ACT_ALLOW",
						  argument(0, "SCMP_CMP_EQ", personalities[i], 0)));
	json_array_append_new(rules, rule("socket", "SCMP_ACT_ALLOW",
					  argument(0, "SCMP_CMP_NE", AF_VSOCK_NUMBER, 0)));
	json_array_append_new(rules, rule("clone", "SCMP_ACT_ALLOW",
					  argument(0, "SCMP_CMP_MASKED_EQ", namespaces, 0)));
	/* Its flags lie in memory where no filter can see them; libc falls back to clone(). */
	json_array_append_new(rules, refuse("clone3", ENOSYS));
	return json_pack("{s:s, s:i, s:[s,s,s], s:o}", "defaultAction", "SCMP_ACT_ERRNO",
			 "defaultErrnoRet", EPERM, "architectures", "SCMP_ARCH_X86_64",
			 "SCMP_ARCH_X86", "SCMP_ARCH_X32", "syscalls", rules);
}
