/*
 * Streams of the guest channel: a program that is executed beside the command (exec), or a child
 * that answers a question (files, top, stats); and what is done at once (signal, resize, shutdown).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utlist.h>

#include "base/mem.h"
#include "base/signame.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "guest/channel.h"
#include "guest/guest_internal.h"
#include "guest/poller.h"
#include "guest/spawn.h"
#include "guest/work.h"

enum { SIGNAL_EXIT_BASE = 128, CHUNK_MAX = 64 << 10, GRACE_MS_MAX = 3600 * 1000 };

struct end {
	int fd; /* non-blocking; -1: closed */
	struct poller_watch *watch;
};

struct job {
	struct job *prev, *next;
	struct guest *guest;
	struct stream *stream; /* NULL: the host has gone */
	pid_t pid;
	bool terminal;
	bool program; /* of exec; else a child that tells its failure as a struct error */
	bool ended;
	int exit_code;
	struct end in, out, err;
	struct strbuf pending; /* for `in` */
	bool in_ended;         /* nothing more comes for it */
	struct strbuf failure;
	json_t *network; /* what it sets up, when it does that */
};

static void close_end(struct end *end)
{
	poller_unwatch(TAKE_PTR(end->watch));
	fd_close(TAKE_FD(end->fd));
}

static void job_free(struct job *job)
{
	close_end(&job->in);
	close_end(&job->out);
	close_end(&job->err);
	strbuf_done(&job->pending);
	strbuf_done(&job->failure);
	json_decref(job->network);
	DL_DELETE(job->guest->jobs, job);
	free(job);
}

static struct job *job_new(struct stream *stream)
{
	struct job *job = mem_new0(struct job);

	job->guest = stream_guest(stream);
	job->stream = stream;
	job->in.fd = job->out.fd = job->err.fd = -1;
	DL_APPEND(job->guest->jobs, job);
	return job;
}

/* -- bytes --------------------------------------------------------------------------------------
 */

/* False: there is no room for more. */
static bool send_output(struct job *job, struct end *end, enum frame_channel channel)
{
	char buffer[CHUNK_MAX];

	while (end->fd >= 0) {
		bool told = channel == FRAME_CHANNEL_ERR && !job->program;
		size_t room = told ? sizeof(struct error) : stream_room(job->stream);
		ssize_t n;

		if (room == 0)
			return false;
		n = read(end->fd, buffer, room < sizeof(buffer) ? room : sizeof(buffer));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n <= 0)
			close_end(end);
		else if (told)
			strbuf_append(&job->failure, buffer, (size_t) n);
		else
			stream_send(job->stream, channel, buffer, (size_t) n);
	}
	return true;
}

static void feed(struct job *job)
{
	size_t done = 0;

	while (job->in.fd >= 0 && done < job->pending.size) {
		ssize_t n = write(job->in.fd, job->pending.data + done, job->pending.size - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			close_end(&job->in);
		else
			done += (size_t) n;
	}
	/* What nobody reads any more is gone, and takes no room. */
	if (job->in.fd < 0)
		done = job->pending.size;
	strbuf_consume(&job->pending, done);
	if (job->stream)
		stream_grant(job->stream, done);
	if (job->in_ended && job->pending.size == 0)
		close_end(&job->in);
}

static void finish(struct job *job)
{
	struct stream *stream = TAKE_PTR(job->stream);
	struct error err;

	if (job->failure.size == sizeof(err)) {
		memcpy(&err, job->failure.data, sizeof(err));
		err.msg[sizeof(err.msg) - 1] = '\0';
		stream_close_error(stream, &err, 1);
	} else if (!job->program && job->exit_code != 0) {
		error_say(&err, -EIO, "the child in the guest has died (%d)", job->exit_code);
		stream_close_error(stream, &err, 1);
	} else {
		if (job->network) {
			json_decref(job->guest->network);
			job->guest->network = TAKE_PTR(job->network);
		}
		stream_close_code(stream, job->exit_code);
	}
	stream_flush(stream);
	job_free(job);
}

/* May free the job. */
static void flow(struct job *job)
{
	bool drained;

	if (!job->stream)
		return;
	feed(job);
	drained = send_output(job, &job->out, FRAME_CHANNEL_OUT);
	drained = send_output(job, &job->err, FRAME_CHANNEL_ERR) && drained;
	/* A process that it left behind may hold the pipes: what is in them now counts. */
	if (job->ended && drained)
		finish(job);
}

static void on_end(void *data)
{
	struct job *job = data;
	struct stream *stream = job->stream;

	flow(job);
	/* finish() has flushed already, and the stream may be gone only after the host's close. */
	if (stream)
		stream_flush(stream);
}

void job_writable(struct job *job)
{
	flow(job);
}

void job_left(struct job *job)
{
	job->stream = NULL;
	close_end(&job->in);
	close_end(&job->out);
	close_end(&job->err);
	/* What nobody can see or stop must not go on. */
	if (job->ended)
		job_free(job);
	else
		kill(job->pid, SIGKILL);
}

bool job_reaped(struct guest *guest, pid_t pid, int wait_status)
{
	struct job *job;

	DL_FOREACH(guest->jobs, job)
	if (!job->ended && job->pid == pid)
		break;
	if (!job)
		return false;
	job->ended = true;
	job->exit_code = WIFSIGNALED(wait_status) ? SIGNAL_EXIT_BASE + WTERMSIG(wait_status)
						  : WEXITSTATUS(wait_status);
	if (job->stream)
		on_end(job);
	else
		job_free(job);
	return true;
}

/* -- control ------------------------------------------------------------------------------------
 */

static int read_signal(const char *name, int *ret, struct error *err)
{
	*ret = signame_number(name);
	return *ret > 0 ? 0 : error_say(err, -EINVAL, "signal: '%.32s' is not a signal", name);
}

static int control(struct job *job, const char *data, size_t size, struct error *err)
{
	struct json_reader in = { .err = err, .where = "control" };
	AUTO(json_decref) json_t *message = NULL;
	AUTO(free) char *name = NULL;
	json_t *resize = NULL;
	bool eof = false;
	int number = 0, r = json_parse(data, size, FRAME_BODY_MAX, &message, err);

	if (r < 0)
		return r;
	json_read_object(&in, message, "resize", &resize);
	json_read_string(&in, message, "signal", &name);
	json_read_bool(&in, message, "eof", &eof);
	r = json_reader_finish(&in, message);
	if (r == 0 && name)
		r = read_signal(name, &number, err);
	if (r == 0 && resize) {
		struct winsize window = {};
		uint32_t width = 0, height = 0;

		in = (struct json_reader){ .err = err, .where = "resize" };
		json_read_uint32(&in, resize, "width", UINT16_MAX, &width);
		json_read_uint32(&in, resize, "height", UINT16_MAX, &height);
		r = json_reader_finish(&in, resize);
		window.ws_col = (unsigned short) width;
		window.ws_row = (unsigned short) height;
		if (r == 0 && job->terminal && width > 0 && height > 0)
			ioctl(job->out.fd, TIOCSWINSZ, &window);
	}
	if (r < 0)
		return r;
	if (number > 0 && !job->ended)
		kill(job->pid, number);
	/* A terminal has no end; its reader gets the character that says so. */
	if (eof && job->terminal)
		strbuf_puts(&job->pending, "\4");
	else if (eof)
		job->in_ended = true;
	feed(job);
	return 0;
}

int job_received(struct job *job, enum frame_channel channel, const char *data, size_t size,
		 struct error *err)
{
	if (channel == FRAME_CHANNEL_CONTROL)
		return control(job, data, size, err);
	if (channel != FRAME_CHANNEL_IN)
		return error_say(err, -EINVAL, "data must come on channel 0");
	strbuf_append(&job->pending, data, size);
	feed(job);
	return 0;
}

/* -- opening ------------------------------------------------------------------------------------
 */

static int open_pipe(int *ret_ours, int *ret_childs, bool to_child, struct error *err)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "pipe");
	*ret_ours = to_child ? fds[1] : fds[0];
	*ret_childs = to_child ? fds[0] : fds[1];
	return fcntl(*ret_ours, F_SETFL, O_NONBLOCK) < 0 ? error_set(err, -errno, "pipe") : 0;
}

static int open_stdio(struct job *job, uint32_t width, uint32_t height, int stdio[3],
		      struct error *err)
{
	int slave, r;

	if (job->terminal) {
		r = spawn_terminal(width, height, &job->out.fd, &slave, err);
		if (r < 0)
			return r;
		stdio[0] = slave;
		stdio[1] = fcntl(slave, F_DUPFD_CLOEXEC, 0);
		stdio[2] = fcntl(slave, F_DUPFD_CLOEXEC, 0);
		job->in.fd = fcntl(job->out.fd, F_DUPFD_CLOEXEC, 0);
		return 0;
	}
	r = open_pipe(&job->in.fd, &stdio[0], true, err);
	if (r == 0)
		r = open_pipe(&job->out.fd, &stdio[1], false, err);
	if (r == 0)
		r = open_pipe(&job->err.fd, &stdio[2], false, err);
	return r;
}

static int watch(struct job *job, struct error *err)
{
	struct end *ends[] = { &job->in, &job->out, &job->err };

	for (size_t i = 0; i < ARRAY_COUNT(ends); i++) {
		int r = ends[i]->fd < 0 ? 0
					: poller_watch_fd(job->guest->poller, ends[i]->fd, on_end,
							  job, &ends[i]->watch);

		if (r < 0)
			return error_set(err, r, "watch a pipe");
	}
	return 0;
}

struct exec_arguments {
	char **command, **env;
	char *workdir, *user;
	bool tty, detach;
	uint32_t width, height;
};

static void exec_arguments_done(struct exec_arguments *arguments)
{
	strv_free(arguments->command);
	strv_free(arguments->env);
	free(arguments->workdir);
	free(arguments->user);
}

static inline void exec_arguments_done_autop(struct exec_arguments *arguments)
{
	exec_arguments_done(arguments);
}

static int read_env(struct json_reader *in, const json_t *object, char ***ret)
{
	json_t *members = NULL, *value;
	const char *key;

	json_read_object(in, object, "env", &members);
	json_object_foreach(members, key, value)
	{
		if (!json_is_string(value) || !key[0] || strchr(key, '='))
			return error_say(in->err, -EINVAL, "exec.env: must be texts by name");
		strv_append_take(ret, mem_printf("%s=%s", key, json_string_value(value)));
	}
	return in->result;
}

static int read_exec(const json_t *arguments, struct exec_arguments *ret, struct error *err)
{
	struct json_reader in = { .err = err, .where = "exec" };
	int r;

	json_read_any(&in, arguments, "kind", NULL);
	json_read_strv(&in, arguments, "command", &ret->command);
	json_read_string(&in, arguments, "workdir", &ret->workdir);
	json_read_string(&in, arguments, "user", &ret->user);
	json_read_bool(&in, arguments, "tty", &ret->tty);
	json_read_bool(&in, arguments, "detach", &ret->detach);
	json_read_uint32(&in, arguments, "width", UINT16_MAX, &ret->width);
	json_read_uint32(&in, arguments, "height", UINT16_MAX, &ret->height);
	r = read_env(&in, arguments, &ret->env);
	if (r == 0)
		r = json_reader_finish(&in, arguments);
	if (r == 0 && (!ret->command || !ret->command[0]))
		return error_say(err, -EINVAL, "exec.command: must name a program");
	if (r == 0 && ret->detach && ret->tty)
		return error_say(err, -EINVAL, "exec.detach: does not go with a terminal");
	return r;
}

static void close_stdio(int stdio[3])
{
	for (int i = 0; i < 3; i++)
		fd_close(stdio[i]);
}

static int open_null(int stdio[3], struct error *err)
{
	for (int i = 0; i < 3; i++) {
		stdio[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (stdio[i] < 0)
			return error_set(err, -errno, "open /dev/null");
	}
	return 0;
}

static int spawn_exec(struct guest *guest, const struct exec_arguments *arguments,
		      const int stdio[3], pid_t *ret_pid, int *ret_code, struct error *err)
{
	struct spawn options = { .process = guest->config.process,
				 .args = (const char *const *) arguments->command,
				 .env = arguments->env,
				 .user = arguments->user && arguments->user[0] ? arguments->user
									       : guest->config.user,
				 .cwd = arguments->workdir,
				 .stdio = { stdio[0], stdio[1], stdio[2] },
				 .terminal = arguments->tty,
				 .limited = guest->config.pids_max > 0 };

	return spawn(&options, ret_pid, ret_code, err);
}

static int exec_open(struct stream *stream, const json_t *json, struct job **ret, struct error *err)
{
	AUTO(exec_arguments_done) struct exec_arguments arguments = {};
	struct guest *guest = stream_guest(stream);
	int stdio[3] = { -1, -1, -1 }, code = 1;
	struct error why = {};
	struct job *job;
	pid_t pid;
	int r = read_exec(json, &arguments, err);

	if (r < 0)
		return r;
	if (arguments.detach) {
		r = open_null(stdio, err);
		if (r == 0 && (r = spawn_exec(guest, &arguments, stdio, &pid, &code, &why)) < 0)
			stream_close_error(stream, &why, code);
		else if (r == 0)
			stream_close_code(stream, 0);
		close_stdio(stdio);
		return 0;
	}
	job = job_new(stream);
	job->program = true;
	job->terminal = arguments.tty;
	r = open_stdio(job, arguments.width, arguments.height, stdio, err);
	if (r == 0)
		r = watch(job, err);
	if (r == 0 && (r = spawn_exec(guest, &arguments, stdio, &job->pid, &code, &why)) < 0) {
		stream_close_error(stream, &why, code);
		job_free(job);
		close_stdio(stdio);
		return 0;
	}
	close_stdio(stdio);
	if (r < 0)
		job_free(job);
	else
		*ret = job;
	return r;
}

static int open_work(struct stream *stream, spawn_work_fn work, void *data, bool input,
		     struct job **ret, struct error *err)
{
	struct job *job = job_new(stream);
	int stdio[3] = { -1, -1, -1 };
	int r = open_stdio(job, 0, 0, stdio, err);

	if (r == 0 && !input)
		close_end(&job->in);
	if (r == 0)
		r = watch(job, err);
	if (r == 0)
		r = spawn_work(work, data, stdio, &job->pid, err);
	close_stdio(stdio);
	if (r < 0)
		job_free(job);
	else
		*ret = job;
	return r;
}

static int files_open(struct stream *stream, const json_t *json, struct job **ret,
		      struct error *err)
{
	static const char *const actions[] = { "stat", "get", "put" };
	struct json_reader in = { .err = err, .where = "files" };
	AUTO(free) char *action = NULL;
	AUTO(free) char *path = NULL;
	struct work_files files = {};
	size_t i = 0;
	int r;

	json_read_any(&in, json, "kind", NULL);
	json_read_string(&in, json, "action", &action);
	json_read_string(&in, json, "path", &path);
	json_read_bool(&in, json, "follow", &files.follow);
	json_read_bool(&in, json, "keep_ids", &files.keep_ids);
	r = json_reader_finish(&in, json);
	if (r < 0)
		return r;
	while (i < ARRAY_COUNT(actions) && (!action || strcmp(action, actions[i]) != 0))
		i++;
	if (i == ARRAY_COUNT(actions))
		return error_say(err, -EINVAL, "files.action: must be stat, get or put");
	if (!path || path[0] != '/')
		return error_say(err, -EINVAL, "path: must be absolute, like \"/etc\"");
	files.action = (enum work_action) i;
	files.path = path;
	return open_work(stream, work_files, &files, files.action == WORK_PUT, ret, err);
}

static int top_open(struct stream *stream, const json_t *json, struct job **ret, struct error *err)
{
	(void) json;
	return open_work(stream, work_top, NULL, false, ret, err);
}

static int stats_open(struct stream *stream, const json_t *json, struct job **ret,
		      struct error *err)
{
	if (!json_is_true(json_object_get(json, "once")))
		return error_say(err, -EINVAL, "stats.once: must be true: the host asks again");
	return open_work(stream, work_stats, NULL, false, ret, err);
}

/* The same again is nothing new: what the instance has made of its interfaces since then stays. */
static int network_open(struct stream *stream, const json_t *json, struct job **ret,
			struct error *err)
{
	AUTO(guest_config_done) struct guest_config config = {};
	struct guest *guest = stream_guest(stream);
	AUTO(json_decref) json_t *network = NULL;
	int r = guest_nics_decode(json_object_get(json, "network"), &config, err);

	if (r == 0)
		r = guest_nics_encode(config.nics, config.nic_count, &network, err);
	if (r < 0)
		return r;
	if (json_equal(network, guest->network)) {
		stream_close_code(stream, 0);
		return 0;
	}
	r = open_work(stream, work_network, &config, false, ret, err);
	if (r < 0)
		return r;
	/* Until it is done nobody knows what there is. */
	json_decref(guest->network);
	guest->network = NULL;
	(*ret)->network = TAKE_PTR(network);
	return 0;
}

static int signal_open(struct stream *stream, const json_t *json, struct job **ret,
		       struct error *err)
{
	const char *name = json_string_value(json_object_get(json, "signal"));
	int number, r = read_signal(name ? name : "", &number, err);

	(void) ret;
	if (r < 0)
		return r;
	command_signal(stream_guest(stream), number);
	stream_close_code(stream, 0);
	return 0;
}

static int resize_open(struct stream *stream, const json_t *json, struct job **ret,
		       struct error *err)
{
	struct json_reader in = { .err = err, .where = "resize" };
	uint32_t width = 0, height = 0;
	int r;

	(void) ret;
	json_read_any(&in, json, "kind", NULL);
	json_read_uint32(&in, json, "width", UINT16_MAX, &width);
	json_read_uint32(&in, json, "height", UINT16_MAX, &height);
	r = json_reader_finish(&in, json);
	if (r < 0)
		return r;
	command_resize(stream_guest(stream), width, height);
	stream_close_code(stream, 0);
	return 0;
}

static int shutdown_open(struct stream *stream, const json_t *json, struct job **ret,
			 struct error *err)
{
	struct json_reader in = { .err = err, .where = "shutdown" };
	AUTO(free) char *action = NULL;
	uint32_t grace_ms = 0;
	int r;

	(void) ret;
	json_read_any(&in, json, "kind", NULL);
	json_read_string(&in, json, "action", &action);
	json_read_uint32(&in, json, "grace_ms", GRACE_MS_MAX, &grace_ms);
	r = json_reader_finish(&in, json);
	if (r < 0)
		return r;
	if (!action || (strcmp(action, "poweroff") != 0 && strcmp(action, "reboot") != 0))
		return error_say(err, -EINVAL, "shutdown.action: must be poweroff or reboot");
	stream_guest(stream)->reboot = strcmp(action, "reboot") == 0;
	command_stop(stream_guest(stream), grace_ms);
	stream_close_code(stream, 0);
	return 0;
}

int job_open(struct stream *stream, const json_t *arguments, struct job **ret, struct error *err)
{
	static const struct {
		const char *name;
		int (*open)(struct stream *stream, const json_t *json, struct job **ret,
			    struct error *err);
	} kinds[] = {
		{ "exec", exec_open },         { "files", files_open },
		{ "top", top_open },           { "stats", stats_open },
		{ "signal", signal_open },     { "resize", resize_open },
		{ "shutdown", shutdown_open }, { "network", network_open },
	};
	const char *kind = json_string_value(json_object_get(arguments, "kind"));

	if (stream_guest(stream)->state != GUEST_RUNNING)
		return error_say(err, -EAGAIN, "the command does not run");
	for (size_t i = 0; kind && i < ARRAY_COUNT(kinds); i++)
		if (strcmp(kinds[i].name, kind) == 0)
			return kinds[i].open(stream, arguments, ret, err);
	return error_say(err, -EINVAL,
			 "kind: must be exec, files, network, top, stats, signal, resize or "
			 "shutdown");
}
