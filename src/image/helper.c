#include "image/helper_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "image/wire_internal.h"
#include "image/worker.h"

enum { FIRST_SPARE_FD = 10, MESSAGES_MAX = 1000000 };

/* Duplicates above the numbers that the worker gets, so that no one overwrites another. */
struct spares {
	int fds[5], as[5];
	size_t count;
};

static int spare(struct spares *spares, int fd, int as)
{
	int copy;

	if (fd < 0)
		return 0;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_SPARE_FD);
	if (copy < 0)
		return -errno;
	spares->fds[spares->count] = copy;
	spares->as[spares->count++] = as;
	return 0;
}

static int spawn_worker(const struct helper *helper, const struct spares *spares, pid_t *ret)
{
	char *argv[] = { "brume-image-worker", (char *) helper->action, NULL };
	char *env[] = { "LC_ALL=C", NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int r = 0;

	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	for (size_t i = 0; r == 0 && i < spares->count; i++)
		r = posix_spawn_file_actions_adddup2(&actions, spares->fds[i], spares->as[i]);
	if (r == 0)
		r = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	if (r == 0)
		r = posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(
			&actions, helper->more_fd >= 0 ? WORKER_MODULES_FD + 1 : WORKER_MODULES_FD);
	if (r == 0)
		r = posix_spawn(ret, helper->worker, &actions, &attr, argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

static int start(const struct helper *helper, int *ret_wire_fd, pid_t *ret_pid, struct error *err)
{
	struct spares spares = {};
	AUTO(fd_close) int own_fd = -1;
	AUTO(fd_close) int child_fd = -1;
	int fds[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return error_set(err, -errno, "image worker");
	own_fd = fds[0];
	child_fd = fds[1];
	r = spare(&spares, child_fd, WORKER_WIRE_FD);
	if (r == 0)
		r = spare(&spares, helper->stream_fd, WORKER_INPUT_FD);
	if (r == 0)
		r = spare(&spares, helper->root_fd, WORKER_JOB_FD);
	if (r == 0)
		r = spare(&spares, helper->extra_fd, WORKER_EXTRA_FD);
	if (r == 0)
		r = spare(&spares, helper->more_fd, WORKER_MODULES_FD);
	if (r == 0)
		r = spawn_worker(helper, &spares, ret_pid);
	for (size_t i = 0; i < spares.count; i++)
		close(spares.fds[i]);
	if (r < 0)
		return error_set(err, r, "start %s", helper->worker);
	*ret_wire_fd = TAKE_FD(own_fd);
	return 0;
}

/* The next message, or the reason why there is none. */
static int next_message(const struct helper *helper, struct wire *wire, json_t **ret,
			struct error *err)
{
	for (;;) {
		struct pollfd fds[] = { { .fd = helper->cancel_fd, .events = POLLIN },
					{ .fd = wire->fd, .events = POLLIN } };
		int r = wire_next(wire, ret, err);

		if (r < 0)
			return error_wrap(err, r, "image worker");
		if (*ret)
			return 0;
		if (poll(fds, ARRAY_COUNT(fds), -1) < 0) {
			if (errno == EINTR)
				continue;
			return error_set(err, -errno, "poll");
		}
		if (fds[0].revents)
			return error_say(err, -ECANCELED, "cancelled");
		r = wire_fill(wire);
		if (r == 0 || r == -ECONNRESET)
			return error_say(err, -EPIPE, "the image worker ended without a word");
		if (r < 0)
			return error_set(err, r, "image worker");
	}
}

/* Its last word when it failed is made one line without control characters. */
static int take_error(const json_t *message, struct error *err)
{
	const char *text = json_string_value(json_object_get(message, "message"));
	json_int_t code = json_integer_value(json_object_get(message, "code"));
	int r = error_say(err, code < 0 && code > -4096 ? (int) code : -EIO, "%s",
			  text && text[0] ? text : "the image worker failed without a word");

	for (char *p = err ? err->msg : NULL; p && *p; p++)
		if ((unsigned char) *p < ' ' || *p == 0x7f)
			*p = '?';
	return r;
}

static int converse(const struct helper *helper, struct wire *wire, json_t *request, json_t **ret,
		    struct error *err)
{
	int r = wire_send(wire->fd, request);

	/* What it says when it ended at once says more than that it does not listen. */
	(void) r;
	for (unsigned int i = 0; i < MESSAGES_MAX; i++) {
		AUTO(json_decref) json_t *message = NULL;
		const char *type;

		r = next_message(helper, wire, &message, err);
		if (r < 0)
			return r;
		type = json_string_value(json_object_get(message, "type"));
		if (type && strcmp(type, "error") == 0)
			return take_error(message, err);
		if (type && strcmp(type, "done") == 0) {
			if (ret)
				*ret = TAKE_PTR(message);
			return 0;
		}
		if (!type || strcmp(type, "progress") != 0)
			return error_say(err, -EPROTO, "image worker: a message of type '%.40s'",
					 type ? type : "");
		json_int_t done = json_integer_value(json_object_get(message, "done"));
		if (helper->progress && done >= 0)
			helper->progress((uint64_t) done, helper->progress_data);
	}
	return error_say(err, -EPROTO, "image worker: it talks too much");
}

int helper_run(const struct helper *helper, json_t *request, json_t **ret, struct error *err)
{
	struct wire wire = { .fd = -1 };
	pid_t pid = 0;
	int r = start(helper, &wire.fd, &pid, err);

	if (r < 0) {
		json_decref(request);
		return r;
	}
	r = converse(helper, &wire, request, ret, err);
	/* Its parting word said, it exits by itself; but it is not trusted to. */
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	close(wire.fd);
	wire_done(&wire);
	return r;
}
