#include "agent/oci.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"

enum { OUTPUT_MAX = 64 * 1024, TIMEOUT_MS = 60 * 1000 };

struct pipe_end {
	int fd;
	struct strbuf text;
};

static int spawn(char *const *argv, int out_fd, int err_fd, pid_t *ret_pid)
{
	static char *const env[] = { (char *) "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int r;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, out_fd, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, err_fd, STDERR_FILENO);
	/* Worker threads block all signals; programs must not start like that. */
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	r = posix_spawn(ret_pid, argv[0], &actions, &attributes, argv, env);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

static void read_some(struct pipe_end *end, struct pollfd *poll_fd)
{
	char buffer[4096];
	ssize_t n = read(end->fd, buffer, sizeof(buffer));

	if (n <= 0) {
		if (n < 0 && errno == EINTR)
			return;
		poll_fd->fd = -1;
		return;
	}
	if (end->text.size + (size_t) n <= OUTPUT_MAX)
		strbuf_append(&end->text, buffer, (size_t) n);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Reads both pipes to their ends.  -ETIMEDOUT when that takes too long. */
static int read_all(struct pipe_end *out, struct pipe_end *err)
{
	struct pollfd fds[] = { { .fd = out->fd, .events = POLLIN },
				{ .fd = err->fd, .events = POLLIN } };
	int64_t deadline = now_ms() + TIMEOUT_MS;

	while (fds[0].fd >= 0 || fds[1].fd >= 0) {
		int64_t left = deadline - now_ms();
		int n = left > 0 ? poll(fds, 2, (int) left) : 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ETIMEDOUT;
		if (fds[0].revents)
			read_some(out, &fds[0]);
		if (fds[1].revents)
			read_some(err, &fds[1]);
	}
	return 0;
}

/* The last line of what a program said, for people; without the program's name. */
static const char *last_line(struct strbuf *text)
{
	while (text->size > 0 &&
	       (text->data[text->size - 1] == '\n' || !text->data[text->size - 1]))
		text->data[--text->size] = '\0';
	const char *line = strrchr(strbuf_str(text), '\n');
	line = line ? line + 1 : strbuf_str(text);
	return strncmp(line, "brume-oci: ", 11) == 0 ? line + 11 : line;
}

static int wait_for(pid_t pid, int *ret_status)
{
	while (waitpid(pid, ret_status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

static int judge(const char *command, int wait_status, struct strbuf *err_text, struct error *err)
{
	const char *line = last_line(err_text);

	if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0)
		return 0;
	if (line[0])
		return error_say(err, -EREMOTEIO, "%s", line);
	if (WIFSIGNALED(wait_status))
		return error_say(err, -EREMOTEIO, "brume-oci %s was ended by signal %d", command,
				 WTERMSIG(wait_status));
	return error_say(err, -EREMOTEIO, "brume-oci %s failed with code %d", command,
			 WEXITSTATUS(wait_status));
}

static void pipe_end_done(struct pipe_end *end)
{
	fd_close(end->fd);
	strbuf_done(&end->text);
}

static void pipe_end_done_autop(struct pipe_end *end)
{
	pipe_end_done(end);
}

int oci_run(const struct agent_options *options, char *const *argv, char **ret_out,
	    struct error *err)
{
	AUTO(pipe_end_done) struct pipe_end out = { .fd = -1 };
	AUTO(pipe_end_done) struct pipe_end complaint = { .fd = -1 };
	AUTO(strv_free) char **full = NULL;
	int out_pipe[2], err_pipe[2], wait_status, r;
	pid_t pid;

	strv_append(&full, options->oci);
	strv_append(&full, "--root");
	strv_append_take(&full, mem_printf("%s/oci", options->run));
	for (size_t i = 0; argv[i]; i++)
		strv_append(&full, argv[i]);
	if (pipe2(out_pipe, O_CLOEXEC) < 0)
		return error_set(err, -errno, "pipe");
	out.fd = out_pipe[0];
	AUTO(fd_close) int out_write = out_pipe[1];
	if (pipe2(err_pipe, O_CLOEXEC) < 0)
		return error_set(err, -errno, "pipe");
	complaint.fd = err_pipe[0];
	AUTO(fd_close) int err_write = err_pipe[1];
	r = spawn(full, out_write, err_write, &pid);
	if (r < 0)
		return error_set(err, r, "start %s", options->oci);
	close(TAKE_FD(out_write));
	close(TAKE_FD(err_write));
	r = read_all(&out, &complaint);
	if (r < 0)
		kill(pid, SIGKILL);
	int waited = wait_for(pid, &wait_status);
	if (r < 0 || waited < 0)
		return error_set(err, r < 0 ? r : waited, "brume-oci %s", argv[0]);
	r = judge(argv[0], wait_status, &complaint.text, err);
	if (r == 0 && ret_out)
		*ret_out = strbuf_take(&out.text);
	return r;
}

int oci_do(const struct agent_options *options, const char *command, const char *uid,
	   struct error *err)
{
	char *argv[] = { (char *) command, (char *) uid, NULL };

	return oci_run(options, argv, NULL, err);
}

/* brume-oci keeps a folder per container below its root. */
static bool known(const struct agent_options *options, const char *uid)
{
	AUTO(free) char *path = mem_printf("%s/oci/%s", options->run, uid);

	return access(path, F_OK) == 0;
}

int oci_state(const struct agent_options *options, const char *uid, enum oci_status *ret,
	      struct error *err)
{
	static const char *const names[] = { "", "created", "running", "paused", "stopped" };
	char *argv[] = { (char *) "state", (char *) uid, NULL };
	AUTO(json_decref) json_t *state = NULL;
	AUTO(free) char *text = NULL;
	int r;

	*ret = OCI_STATUS_NONE;
	if (!known(options, uid))
		return 0;
	r = oci_run(options, argv, &text, err);
	if (r == 0)
		r = json_parse(text, strlen(text), OUTPUT_MAX, &state, err);
	if (r < 0)
		return r;
	const char *status = json_string_value(json_object_get(state, "status"));
	for (size_t i = 1; status && i < ARRAY_COUNT(names); i++)
		if (strcmp(status, names[i]) == 0)
			*ret = (enum oci_status) i;
	return 0;
}

int oci_delete(const struct agent_options *options, const char *uid, struct error *err)
{
	char *argv[] = { (char *) "delete", (char *) "--force", (char *) uid, NULL };
	int r;

	if (!known(options, uid))
		return 0;
	r = oci_run(options, argv, NULL, err);
	return r < 0 && !known(options, uid) ? 0 : r;
}

int oci_forget(const struct agent_options *options, const char *uid, struct error *err)
{
	AUTO(free) char *path = mem_printf("%s/oci/%s", options->run, uid);
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? 0 : error_set(err, -errno, "open %s", path);
	/* Every command of brume-oci holds this while it works. */
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return error_set(err, errno == EWOULDBLOCK ? -EBUSY : -errno, "lock %s", path);
	int r = file_remove_tree(AT_FDCWD, path);
	return r < 0 ? error_set(err, r, "remove %s", path) : 0;
}
