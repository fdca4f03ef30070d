#include "container/hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "kern/pidfd.h"

/* A file, not a pipe: a hook that does not read its stdin must not block us. */
static int state_file(const struct oci_state *state, enum oci_status status)
{
	AUTO(json_decref) json_t *object = oci_state_public(state, status);
	AUTO(free) char *text = json_text(object);
	AUTO(fd_close) int fd = memfd_create("state", MFD_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = file_write_all(fd, text, strlen(text));
	if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = -errno;
	return r < 0 ? r : TAKE_FD(fd);
}

static void child(const struct oci_hook *hook, int stdin_fd)
{
	const char *const own[] = { hook->path, NULL };
	sigset_t empty;

	sigemptyset(&empty);
	sigprocmask(SIG_SETMASK, &empty, NULL);
	if (dup2(stdin_fd, STDIN_FILENO) < 0 || setpgid(0, 0) < 0)
		_exit(126);
	/* Without a list of its own it has ours, as with the field's runtimes. */
	execve(hook->path, (char *const *) (hook->args && hook->args[0] ? hook->args : own),
	       (char *const *) (hook->env ? (char *const *) hook->env : environ));
	_exit(errno == ENOENT ? 127 : 126);
}

/* Waits; kills the hook and what it has started when its time is over. */
static int wait_hook(pid_t pid, const struct oci_hook *hook, struct error *err)
{
	AUTO(fd_close) int pidfd = pidfd_open_pid(pid);
	struct pollfd poll_fd = { .fd = pidfd, .events = POLLIN };
	int timeout = hook->timeout_s ? (int) hook->timeout_s * 1000 : -1;
	bool late = false;
	int status, r;

	if (pidfd < 0)
		return error_set(err, pidfd, "hook %s", hook->path);
	do
		r = poll(&poll_fd, 1, timeout);
	while (r < 0 && errno == EINTR);
	if (r == 0) {
		late = true;
		kill(-pid, SIGKILL);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return error_set(err, -errno, "hook %s", hook->path);
	if (late)
		return error_say(err, -ETIMEDOUT, "hook %s: not done after %lld s", hook->path,
				 (long long) hook->timeout_s);
	if (WIFSIGNALED(status))
		return error_say(err, -ECANCELED, "hook %s: killed by signal %d", hook->path,
				 WTERMSIG(status));
	if (WEXITSTATUS(status) == 127)
		return error_say(err, -ENOENT, "hook %s: exit code 127, is it there?", hook->path);
	if (WEXITSTATUS(status) != 0)
		return error_say(err, -ECANCELED, "hook %s: exit code %d", hook->path,
				 WEXITSTATUS(status));
	return 0;
}

static int run_one(const struct oci_hook *hook, const struct oci_state *state,
		   enum oci_status status, struct error *err)
{
	AUTO(fd_close) int fd = state_file(state, status);
	pid_t pid;

	if (fd < 0)
		return error_set(err, fd, "hook %s: its stdin", hook->path);
	pid = fork();
	if (pid < 0)
		return error_set(err, -errno, "hook %s", hook->path);
	if (pid == 0)
		child(hook, fd);
	return wait_hook(pid, hook, err);
}

int hooks_run(const struct oci_spec *spec, enum oci_hook_kind kind, const struct oci_state *state,
	      enum oci_status status, struct error *err)
{
	const struct oci_hooks *hooks = &spec->hooks[kind];

	for (size_t i = 0; i < hooks->count; i++) {
		int r = run_one(&hooks->list[i], state, status, err);

		if (r < 0)
			return error_wrap(err, r, "%s", oci_hook_name(kind));
	}
	return 0;
}

void hooks_run_all(const struct oci_spec *spec, enum oci_hook_kind kind,
		   const struct oci_state *state, enum oci_status status)
{
	const struct oci_hooks *hooks = &spec->hooks[kind];

	for (size_t i = 0; i < hooks->count; i++) {
		struct error err = {};

		if (run_one(&hooks->list[i], state, status, &err) < 0)
			log_warning("%s: %s: going on", oci_hook_name(kind), err.msg);
	}
}
