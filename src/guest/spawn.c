#include "guest/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/capname.h"
#include "base/error.h"
#include "base/file.h"
#include "base/limitname.h"
#include "base/mem.h"
#include "base/strv.h"
#include "codec/oci_spec.h"
#include "codec/users.h"
#include "guest/setup.h"
#include "kern/caps.h"

enum { SIGNAL_EXIT_BASE = 128, WORK_ERROR_FD = 2 };

/* Who it is, in the end. */
struct identity {
	uint32_t uid, gid;
	uint32_t groups[USERS_GROUPS_MAX];
	size_t group_count;
	const char *home; /* NULL: not looked up */
	struct users users;
};

/* What a child that could not tells through a pipe. */
struct failure {
	int code;
	struct error err;
};

static char *read_etc(const char *path)
{
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	char *text;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    file_read_fd(fd, USERS_FILE_MAX, &text, NULL) < 0)
		return NULL;
	return text;
}

static int identify(const struct spawn *spawn, struct identity *ret, struct error *err)
{
	const struct oci_process *process = spawn->process;
	AUTO(free) char *passwd = NULL;
	AUTO(free) char *group = NULL;
	int r;

	*ret = (struct identity){ .uid = process->uid, .gid = process->gid };
	if (!spawn->user || !spawn->user[0]) {
		for (size_t i = 0; i < process->group_count && i < USERS_GROUPS_MAX; i++)
			ret->groups[ret->group_count++] = process->groups[i];
		return 0;
	}
	passwd = read_etc("/etc/passwd");
	group = read_etc("/etc/group");
	r = users_find(passwd, group, spawn->user, &ret->users, err);
	if (r < 0)
		return r;
	ret->uid = ret->users.uid;
	ret->gid = ret->users.gid;
	ret->group_count = ret->users.group_count;
	memcpy(ret->groups, ret->users.groups, sizeof(ret->groups));
	ret->home = ret->users.home;
	return 0;
}

static char **make_env(const struct spawn *spawn, const struct identity *identity)
{
	oci_strings given = spawn->process->env;
	char **env = NULL;

	for (size_t i = 0; given && given[i]; i++)
		strv_append(&env, given[i]);
	for (size_t i = 0; spawn->env && spawn->env[i]; i++) {
		const char *equals = strchr(spawn->env[i], '=');
		AUTO(free)
		char *name = mem_strndup(spawn->env[i], equals ? (size_t) (equals - spawn->env[i])
							       : strlen(spawn->env[i]));

		strv_env_set(&env, name, equals ? equals + 1 : "");
	}
	if (spawn->terminal && !strv_env_get(env, "TERM"))
		strv_env_set(&env, "TERM", "xterm");
	if (!strv_env_get(env, "HOME"))
		strv_env_set(&env, "HOME", identity->home ? identity->home : "/");
	if (!env)
		env = mem_new0_array(char *, 1);
	return env;
}

/* -- in the child ------------------------------------------------------------------------------ */

static int set_limits(const struct oci_process *process, struct error *err)
{
	for (size_t i = 0; i < process->rlimit_count; i++) {
		const struct oci_rlimit *limit = &process->rlimits[i];
		struct rlimit value = { .rlim_cur = limit->soft, .rlim_max = limit->hard };
		int number = limitname_number(limit->type);

		if (number < 0)
			return error_say(err, -EINVAL, "%.32s: is not a limit", limit->type);
		if (setrlimit((__rlimit_resource_t) number, &value) < 0)
			return error_set(err, -errno, "set %s", limit->type);
	}
	return 0;
}

static uint64_t capability_bits(oci_strings list)
{
	uint64_t bits = 0;

	for (size_t i = 0; list && list[i]; i++) {
		int number = capname_number(list[i]);

		bits |= number < 0 ? 0 : UINT64_C(1) << number;
	}
	return bits & caps_all();
}

static int become(const struct spawn *spawn, const struct identity *identity, struct error *err)
{
	const struct oci_process *process = spawn->process;
	uint64_t ambient = 0, inheritable = 0, own = caps_all(), bounding = caps_all();
	int r = 0;

	if (process->has_capabilities) {
		bounding = capability_bits(process->capabilities[OCI_CAPS_BOUNDING]);
		own = capability_bits(process->capabilities[OCI_CAPS_PERMITTED]);
		if (identity->uid != 0 || process->uid != 0)
			ambient = capability_bits(process->capabilities[OCI_CAPS_AMBIENT]);
		inheritable = ambient;
		r = caps_drop_bounding(bounding);
	}
	if (r < 0)
		return error_set(err, r, "drop capabilities");
	if (prctl(PR_SET_KEEPCAPS, 1) < 0 ||
	    setgroups(identity->group_count, identity->groups) < 0 ||
	    setresgid(identity->gid, identity->gid, identity->gid) < 0 ||
	    setresuid(identity->uid, identity->uid, identity->uid) < 0)
		return error_set(err, -errno, "become user %u", identity->uid);
	prctl(PR_SET_KEEPCAPS, 0);
	if (identity->uid != 0)
		own = ambient;
	r = caps_set(own, own, inheritable);
	if (r == 0 && ambient)
		r = caps_set_ambient(ambient);
	if (r < 0)
		return error_set(err, r, "set capabilities");
	if (process->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set(err, -errno, "set no_new_privs");
	return 0;
}

static void reset_signals(void)
{
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int enter_folder(const char *cwd, struct error *err)
{
	/* As a container: what an image says about its working folder is made true. */
	if (chdir(cwd) == 0)
		return 0;
	if (errno == ENOENT) {
		int r = file_mkdir_all(cwd, 0755);

		if (r == 0 && chdir(cwd) == 0)
			return 0;
	}
	return error_set(err, -errno, "enter the folder %.200s", cwd);
}

static int set_stdio(const struct spawn *spawn, struct error *err)
{
	for (int i = 0; i < 3; i++)
		if (dup2(spawn->stdio[i], i) < 0)
			return error_set(err, -errno, "standard input and output");
	setsid();
	if (spawn->terminal && ioctl(0, TIOCSCTTY, 0) < 0)
		return error_set(err, -errno, "take the terminal");
	return 0;
}

static int execute(const char *const *args, char **env, struct failure *failure)
{
	const char *path = strv_env_get(env, "PATH");
	struct stat st;
	int code;

	/* execvp() looks for it in our own PATH. */
	setenv("PATH", path ? path : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	       1);
	execvpe(args[0], (char *const *) (uintptr_t) args, env);
	code = -errno;
	/* A script whose interpreter is missing looks the same as one that is not there. */
	failure->code = code == -ENOENT && stat(args[0], &st) < 0 ? SPAWN_MISSING : SPAWN_UNUSABLE;
	if (code == -ENOENT && !strchr(args[0], '/'))
		return error_say(&failure->err, code, "%.200s: command not found", args[0]);
	return error_set(&failure->err, code, "execute %.200s", args[0]);
}

static void small_init(pid_t program)
{
	sigset_t all;
	siginfo_t info;
	int status;
	pid_t pid;

	/* Whoever waits for the end of a pipe must not wait for us. */
	close_range(0, ~0u, 0);
	sigfillset(&all);
	for (;;) {
		if (sigwaitinfo(&all, &info) < 0)
			continue;
		if (info.si_signo != SIGCHLD) {
			kill(program, info.si_signo);
			continue;
		}
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			if (pid == program)
				_exit(WIFSIGNALED(status) ? SIGNAL_EXIT_BASE + WTERMSIG(status)
							  : WEXITSTATUS(status));
	}
}

static int prepare(const struct spawn *spawn, const struct identity *identity,
		   struct failure *failure)
{
	const struct oci_process *process = spawn->process;
	struct error *err = &failure->err;
	const char *cwd = spawn->cwd && spawn->cwd[0] ? spawn->cwd : process->cwd;
	int r;

	if (spawn->first &&
	    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return error_set(err, -errno, "mount proc");
	if (spawn->limited && file_write_kernel(AT_FDCWD, SETUP_CGROUP_PROCS, "0") < 0)
		return error_say(err, -EIO, "enter the control group");
	if (spawn->reap) {
		pid_t pid = fork();

		if (pid < 0)
			return error_set(err, -errno, "fork");
		if (pid > 0)
			small_init(pid);
	}
	r = set_stdio(spawn, err);
	if (r == 0 && spawn->terminal)
		(void) !fchown(0, identity->uid, identity->gid);
	if (r == 0)
		r = set_limits(process, err);
	if (r == 0)
		r = enter_folder(cwd, err);
	if (r == 0 && process->oom_score_adj.set) {
		char text[16];

		snprintf(text, sizeof(text), "%d", (int) process->oom_score_adj.value);
		(void) file_write_kernel(AT_FDCWD, "/proc/self/oom_score_adj", text);
	}
	umask(process->umask.set ? (mode_t) process->umask.value : 022);
	return r < 0 ? r : become(spawn, identity, err);
}

static void run_child(const struct spawn *spawn, const struct identity *identity, int report_fd)
{
	const char *const *args = spawn->args ? spawn->args : spawn->process->args;
	char **env = make_env(spawn, identity);
	struct failure failure = { .code = 1 };

	if (prepare(spawn, identity, &failure) == 0) {
		reset_signals();
		execute(args, env, &failure);
	}
	(void) !write(report_fd, &failure, sizeof(failure));
	_exit(failure.code);
}

int spawn(const struct spawn *spawn, pid_t *ret_pid, int *ret_code, struct error *err)
{
	struct identity identity;
	struct failure failure;
	int fds[2], r = identify(spawn, &identity, err);
	ssize_t n;
	pid_t pid;

	*ret_code = 1;
	if (r < 0)
		return r;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "pipe");
	pid = fork();
	if (pid == 0) {
		close(fds[0]);
		run_child(spawn, &identity, fds[1]);
	}
	r = pid < 0 ? -errno : 0;
	close(fds[1]);
	if (r < 0) {
		close(fds[0]);
		return error_set(err, r, "fork");
	}
	do
		n = read(fds[0], &failure, sizeof(failure));
	while (n < 0 && errno == EINTR);
	close(fds[0]);
	if (n == (ssize_t) sizeof(failure)) {
		waitpid(pid, NULL, 0);
		*ret_code = failure.code;
		if (err)
			*err = failure.err;
		return failure.err.code < 0 ? failure.err.code : -EIO;
	}
	*ret_pid = pid;
	return 0;
}

int spawn_work(spawn_work_fn work, void *data, const int stdio[3], pid_t *ret_pid,
	       struct error *err)
{
	pid_t pid = fork();

	if (pid < 0)
		return error_set(err, -errno, "fork");
	if (pid == 0) {
		struct error why = {};

		reset_signals();
		signal(SIGPIPE, SIG_IGN);
		for (int i = 0; i < 3; i++)
			dup2(stdio[i], i);
		close_range(3, ~0u, 0);
		if (work(data, &why) == 0)
			_exit(0);
		(void) !write(WORK_ERROR_FD, &why, sizeof(why));
		_exit(1);
	}
	*ret_pid = pid;
	return 0;
}

int spawn_terminal(uint32_t width, uint32_t height, int *ret_master, int *ret_slave,
		   struct error *err)
{
	struct winsize size = { .ws_col = (unsigned short) width,
				.ws_row = (unsigned short) height };
	AUTO(fd_close) int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	int slave;

	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
		return error_set(err, -errno, "make a terminal");
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return error_set(err, -errno, "make a terminal");
	if (width > 0 && height > 0)
		ioctl(master, TIOCSWINSZ, &size);
	*ret_master = TAKE_FD(master);
	*ret_slave = slave;
	return 0;
}
