#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "keeper/keeper_internal.h"

/* Descriptors are moved above this number before they are put where the job wants them. */
enum { PARKED_FD_MIN = 64, CHILD_NOFILE_SOFT = 1024 };

void child_protect_self(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	/* Needs CAP_SYS_RESOURCE; without it the keeper is only as safe as others. */
	file_write_kernel(AT_FDCWD, "/proc/self/oom_score_adj", "-999");
}

static void unprotect(void)
{
	struct rlimit limit;

	file_write_kernel(AT_FDCWD, "/proc/self/oom_score_adj", "0");
	/* Last: the keeper's own descriptors, which are still open here, may be more than that. */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > CHILD_NOFILE_SOFT) {
		limit.rlim_cur = CHILD_NOFILE_SOFT;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static void default_signals(void)
{
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void fail(const char *what, const char *name)
{
	dprintf(STDERR_FILENO, "brume-keeper: cannot %s %s: %s\n", what, name, strerror(errno));
	_exit(127);
}

static int park(int fd)
{
	return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, PARKED_FD_MIN);
}

static void place_fds(const struct child_spec *spec)
{
	const struct keeper_msg *msg = spec->msg;
	int given[KEEPER_FDS_MAX];
	int out = park(spec->out_fd), err = park(spec->err_fd);
	int in = park(spec->in_fd), console = park(spec->console_fd);

	for (unsigned int i = 0; i < msg->fd_count; i++)
		given[i] = park(spec->fds[i]);
	/* 0 to 2 are always open, whatever the keeper was started with. */
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int i = 0; i < 3; i++)
		if (null != i)
			dup2(null, i);
	if (in >= 0)
		dup2(in, STDIN_FILENO);
	if (out >= 0)
		dup2(out, STDOUT_FILENO);
	if (err >= 0)
		dup2(err, STDERR_FILENO);
	for (unsigned int i = 0; i < msg->fd_count; i++)
		if (given[i] < 0 || dup2(given[i], msg->fds[i]) < 0)
			fail("place descriptors of", msg->job);
	if (console >= 0)
		dup2(console, KEEPER_CONSOLE_FD);
}

static void run(const struct child_spec *spec, int go_fd)
{
	AUTO(free) char **argv = keeper_strings_unpack(&spec->msg->argv);
	AUTO(free) char **env = keeper_strings_unpack(&spec->msg->env);
	const char *cwd = spec->msg->cwd ? spec->msg->cwd : "/";
	char go;

	setsid();
	if (read(go_fd, &go, 1) != 1)
		_exit(125);
	default_signals();
	umask(022);
	place_fds(spec);
	unprotect();
	if (chdir(cwd) < 0)
		fail("enter", cwd);
	execve(argv[0], argv, env);
	fail("start", argv[0]);
}

int child_fork(const struct child_spec *spec, pid_t *ret_pid, int *ret_go_fd)
{
	AUTO(fd_close) int read_fd = -1;
	AUTO(fd_close) int write_fd = -1;
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	read_fd = fds[0];
	write_fd = fds[1];
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		close(write_fd);
		run(spec, read_fd);
		_exit(127);
	}
	*ret_pid = pid;
	*ret_go_fd = TAKE_FD(write_fd);
	return 0;
}
