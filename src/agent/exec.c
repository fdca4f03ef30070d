/* Another process in a running instance, with pipes or a terminal that lead to a stream. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "agent/agent_internal.h"
#include "agent/bundle.h"
#include "agent/exit_code.h"
#include "agent/guest_stream.h"
#include "agent/instance_actor.h"
#include "agent/outpipe.h"
#include "agent/retry.h"
#include "agent/stream.h"
#include "agent/terminal_socket.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/strv.h"
#include "kern/pidfd.h"
#include "model/instance.h"
#include "model/member.h"
#include "model/stream_control.h"

enum {
	KEEPER_PATIENCE_MS = 10 * 1000, /* for a keeper that is being restarted */
};

/* What the worker that writes the process document needs; outlives the stream. */
struct preparation {
	struct exec *exec; /* NULL: the stream is gone */
	pid_t pid;
	char *dir, *path;
	struct bundle_exec process;
	int result;
	struct error err;
};

struct exec {
	struct stream *stream;
	struct agent *agent;
	char uid[UID_SIZE];
	char job[KEEPER_JOB_MAX + 1];
	char *process_path, *pid_path;
	bool tty;
	uint32_t width, height;
	struct preparation *preparation;
	int child_in, child_out, child_err; /* until the process is spawned */
	struct terminal_socket console;     /* where the terminal comes from */
	int terminal_fd;                    /* for sizes; the pipes have their own copies */
	struct inpipe in;
	struct outpipe out, err;
	bool spawned, ended;
	bool waiting;   /* for a keeper */
	bool confirmed; /* a keeper has said that the job is there */
	bool listed;    /* by the keeper that runs now */
	bool detach;    /* the client does not wait for its end */
	int pid_fd;     /* the kernel keeps the exit code as long as we do */
	pid_t pid;
	struct retry patience;
	int64_t exit_code;
	struct error failure; /* code 0: it ran */
};

static void preparation_free(struct preparation *preparation)
{
	strv_free(preparation->process.command);
	strv_free(preparation->process.env);
	free((char *) preparation->process.workdir);
	free((char *) preparation->process.user);
	free(preparation->dir);
	free(preparation->path);
	free(preparation);
}

static void close_child_ends(struct exec *exec)
{
	fd_close(exec->child_in);
	fd_close(exec->child_out);
	fd_close(exec->child_err);
	exec->child_in = exec->child_out = exec->child_err = -1;
}

static void remove_file(char *path)
{
	if (path)
		unlink(path);
	free(path);
}

static void exec_free(void *data)
{
	struct exec *exec = data;
	struct keeper_client *keeper = agent_keeper(exec->agent);

	/* Nobody listens any more: what nobody can see or stop must not go on. */
	bool goes_on = exec->detach && exec->confirmed;

	if (exec->spawned && !exec->ended && !goes_on && keeper)
		keeper_client_signal(keeper, exec->job, SIGKILL);
	if (exec->preparation)
		exec->preparation->exec = NULL;
	retry_stop(&exec->patience);
	fd_close(exec->pid_fd);
	terminal_socket_done(&exec->console);
	fd_close(exec->terminal_fd);
	close_child_ends(exec);
	inpipe_done(&exec->in);
	outpipe_done(&exec->out);
	outpipe_done(&exec->err);
	remove_file(exec->process_path);
	remove_file(exec->pid_path);
	free(exec);
}

/* The process has ended and everything it wrote has been passed on. */
static void finish_if_done(struct exec *exec)
{
	struct error failure = exec->failure;

	if (!exec->ended)
		return;
	/* A process it left behind may hold the pipes open: what is in them now counts. */
	if (!outpipe_drain(&exec->out) || !outpipe_drain(&exec->err))
		return;
	/* As a shell has it: a program that is not there, or none. */
	if (failure.code < 0 && exit_code_is_programs(exec->exit_code))
		stream_close_failure(exec->stream, &failure, exec->exit_code);
	else if (failure.code < 0)
		stream_close_error(exec->stream, &failure);
	else
		stream_close_code(exec->stream, exec->exit_code);
}

static void on_output_end(void *data)
{
	finish_if_done(data);
}

static void set_size(struct exec *exec)
{
	struct winsize size = { .ws_col = (unsigned short) exec->width,
				.ws_row = (unsigned short) exec->height };

	if (exec->terminal_fd >= 0 && exec->width > 0 && exec->height > 0)
		ioctl(exec->terminal_fd, TIOCSWINSZ, &size);
}

static int start_terminal(struct exec *exec, int terminal_fd, struct error *err)
{
	int in = fcntl(terminal_fd, F_DUPFD_CLOEXEC, 0);
	int out = fcntl(terminal_fd, F_DUPFD_CLOEXEC, 0);
	int r;

	exec->terminal_fd = terminal_fd;
	set_size(exec);
	r = outpipe_start(&exec->out, exec->stream, FRAME_CHANNEL_OUT, out, on_output_end, exec,
			  err);
	return r < 0 ? r : inpipe_start(&exec->in, exec->stream, in, err);
}

static void on_terminal(void *data, int terminal_fd)
{
	struct exec *exec = data;
	struct error err = {};

	if (start_terminal(exec, terminal_fd, &err) < 0)
		log_error("exec %s: %s", exec->job, err.msg);
}

static int open_console(struct exec *exec, struct error *err)
{
	return terminal_socket_open(&exec->console, exec->agent->event,
				    mem_printf("%s/instances/%s/%s.sock", exec->agent->options->run,
					       exec->uid, exec->job),
				    err);
}

static int open_pipe(int *ret_ours, int *ret_childs, bool to_child, struct error *err)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "pipe");
	*ret_ours = to_child ? fds[1] : fds[0];
	*ret_childs = to_child ? fds[0] : fds[1];
	return 0;
}

static int open_pipes(struct exec *exec, struct error *err)
{
	int fd = -1, r;

	r = open_pipe(&fd, &exec->child_err, false, err);
	if (r == 0)
		r = outpipe_start(&exec->err, exec->stream, FRAME_CHANNEL_ERR, fd, on_output_end,
				  exec, err);
	/* Until the program runs, brume-oci speaks here: should it fail, that is the error. */
	if (r == 0)
		outpipe_pause(&exec->err);
	/* Nobody would read or write the rest. */
	if (r < 0 || exec->detach)
		return r;
	if (exec->tty)
		return open_console(exec, err);
	r = open_pipe(&fd, &exec->child_out, false, err);
	if (r == 0)
		r = outpipe_start(&exec->out, exec->stream, FRAME_CHANNEL_OUT, fd, on_output_end,
				  exec, err);
	if (r == 0)
		r = open_pipe(&fd, &exec->child_in, true, err);
	return r < 0 ? r : inpipe_start(&exec->in, exec->stream, fd, err);
}

static void prepare(void *data)
{
	struct preparation *preparation = data;

	preparation->result =
		bundle_write_exec_process(preparation->dir, preparation->pid, &preparation->process,
					  preparation->path, &preparation->err);
}

static int spawn(struct exec *exec, struct error *err)
{
	const struct agent_options *options = exec->agent->options;
	struct keeper_client *keeper = agent_keeper(exec->agent);
	AUTO(free) char *oci_root = mem_printf("%s/oci", options->run);
	AUTO(strv_free) char **argv = NULL;
	char *env[] = { (char *) "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	int fds[3], as[3];
	unsigned int count = 0;

	exec->waiting = !keeper;
	if (!keeper) {
		retry_in(&exec->patience, exec->agent->event, KEEPER_PATIENCE_MS);
		return 0;
	}
	const char *const words[] = { options->oci,   "--root",    oci_root,
				      "exec",         "--detach",  "--pid-file",
				      exec->pid_path, "--process", exec->process_path };
	for (size_t i = 0; i < ARRAY_COUNT(words); i++)
		strv_append(&argv, words[i]);
	if (exec->tty) {
		strv_append(&argv, "--console-socket");
		strv_append(&argv, exec->console.path);
	}
	strv_append(&argv, exec->uid);
	const int ends[] = { exec->child_in, exec->child_out, exec->child_err };
	for (int i = 0; i < 3; i++) {
		if (ends[i] < 0)
			continue;
		fds[count] = ends[i];
		as[count++] = i;
	}
	struct keeper_spawn order = { .job = exec->job,
				      .mode = KEEPER_PID_FILE,
				      .stdio = KEEPER_GIVEN,
				      .argv = argv,
				      .env = env,
				      .pid_file = exec->pid_path,
				      .fd_count = count,
				      .fds = fds,
				      .fds_as = as };
	exec->spawned = true;
	exec->listed = true;
	int r = keeper_client_spawn(keeper, &order, err);
	/* It has just died: the next one will not list the job, and is asked then. */
	return r == -EPIPE || r == -ECONNRESET || r == -ENOTCONN ? 0 : r;
}

static void prepared(void *data)
{
	struct preparation *preparation = data;
	struct exec *exec = preparation->exec;
	struct error err = preparation->err;
	int r = preparation->result;

	preparation_free(preparation);
	if (!exec)
		return;
	exec->preparation = NULL;
	if (r == 0)
		r = spawn(exec, &err);
	if (r < 0)
		stream_close_error(exec->stream, &err);
}

static int control(struct exec *exec, const char *data, size_t size, struct error *err)
{
	AUTO(json_decref) json_t *message = NULL;
	struct keeper_client *keeper = agent_keeper(exec->agent);
	struct stream_control control;
	int r = json_parse(data, size, FRAME_BODY_MAX, &message, err);

	if (r == 0)
		r = stream_control_decode(message, &control, err);
	if (r < 0)
		return r;
	if (control.detach)
		return error_say(err, -EINVAL, "control message.detach: is for attach only");
	if (control.width > 0) {
		exec->width = control.width;
		exec->height = control.height;
		set_size(exec);
	}
	if (control.signal > 0 && exec->spawned && keeper)
		keeper_client_signal(keeper, exec->job, control.signal);
	/* A terminal has no end; its reader gets the character that says so. */
	if (control.eof && exec->tty)
		inpipe_write(&exec->in, "\4", 1);
	else if (control.eof)
		inpipe_finish(&exec->in);
	return 0;
}

static int exec_received(void *data, enum frame_channel channel, const char *bytes, size_t size,
			 struct error *err)
{
	struct exec *exec = data;

	if (channel == FRAME_CHANNEL_CONTROL)
		return control(exec, bytes, size, err);
	if (channel != FRAME_CHANNEL_IN)
		return error_say(err, -EINVAL, "exec: data must come on channel 0");
	inpipe_write(&exec->in, bytes, size);
	return 0;
}

static void exec_writable(void *data)
{
	struct exec *exec = data;

	outpipe_credited(&exec->out);
	outpipe_credited(&exec->err);
	finish_if_done(exec);
}

static const struct stream_ops exec_ops = { exec_received, exec_writable, exec_free };

static int read_arguments(const json_t *arguments, struct exec *exec, struct bundle_exec *process,
			  struct error *err)
{
	struct json_reader in = { .err = err, .where = "exec" };
	char *workdir = NULL, *user = NULL;

	json_read_any(&in, arguments, "kind", NULL);
	member_read_uid(&in, arguments, "uid", exec->uid);
	json_read_strv(&in, arguments, "command", &process->command);
	member_read_map(&in, arguments, "env", &process->env);
	json_read_string(&in, arguments, "workdir", &workdir);
	json_read_string(&in, arguments, "user", &user);
	json_read_bool(&in, arguments, "tty", &exec->tty);
	json_read_bool(&in, arguments, "detach", &exec->detach);
	json_read_uint32(&in, arguments, "width", UINT16_MAX, &exec->width);
	json_read_uint32(&in, arguments, "height", UINT16_MAX, &exec->height);
	process->workdir = workdir;
	process->user = user;
	process->tty = exec->tty;
	process->width = exec->width;
	process->height = exec->height;
	if (in.result == 0 && (!process->command || !process->command[0]))
		return error_say(err, -EINVAL, "exec.command: must name a program");
	if (in.result == 0 && exec->detach && exec->tty)
		return error_say(err, -EINVAL, "exec.detach: does not go with a terminal");
	return json_reader_finish(&in, arguments);
}

static int begin(struct exec *exec, struct preparation *preparation, const json_t *arguments,
		 struct error *err)
{
	const char *run = exec->agent->options->run;
	int r = read_arguments(arguments, exec, &preparation->process, err);

	if (r < 0)
		return r;
	if (instance_pid(exec->agent, exec->uid, &preparation->pid) < 0)
		return error_say(err, -ESRCH, "the instance is not running; start it first");
	/* A detached one must not be taken for one that an agent before has left. */
	snprintf(exec->job, sizeof(exec->job), "%c-%08x-%llx", exec->detach ? 'b' : 'x',
		 exec->agent->salt, (unsigned long long) stream_id(exec->stream));
	exec->process_path = mem_printf("%s/instances/%s/%s.json", run, exec->uid, exec->job);
	exec->pid_path = mem_printf("%s/instances/%s/%s.pid", run, exec->uid, exec->job);
	r = open_pipes(exec, err);
	if (r < 0)
		return r;
	preparation->exec = exec;
	preparation->dir = agent_run_path(exec->agent, exec->uid, NULL);
	preparation->path = mem_strdup(exec->process_path);
	exec->preparation = preparation;
	return 0;
}

static void out_of_patience(void *data)
{
	struct exec *exec = data;
	struct error err = {};

	error_say(&err, -EAGAIN, "brume-keeper does not come back; try again");
	stream_close_error(exec->stream, &err);
}

/* As `exec` there, but nothing of it is on the node. */
static int open_in_guest(struct stream *stream, struct guest *guest, const json_t *arguments,
			 const struct stream_ops **ret_ops, void **ret_data, struct error *err)
{
	static const struct guest_stream_kind kind = {};
	struct bundle_exec process = {};
	struct exec checked = {};
	int r = read_arguments(arguments, &checked, &process, err);

	strv_free(process.command);
	strv_free(process.env);
	free((char *) process.workdir);
	free((char *) process.user);
	if (r == 0)
		guest_stream_open(stream, guest, arguments, &kind, ret_ops, ret_data);
	return r;
}

int exec_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
	      void **ret_data, struct error *err)
{
	const char *uid = json_string_value(json_object_get(arguments, "uid"));
	struct guest *guest = NULL;
	int r = instance_guest(stream_agent(stream), uid ? uid : "", &guest, err);

	if (r != 0)
		return r < 0 ? r : open_in_guest(stream, guest, arguments, ret_ops, ret_data, err);
	struct exec *exec = mem_new0(struct exec);
	struct preparation *preparation = mem_new0(struct preparation);
	exec->stream = stream;
	exec->agent = stream_agent(stream);
	exec->child_in = exec->child_out = exec->child_err = -1;
	exec->terminal_fd = exec->pid_fd = -1;
	exec->console = (struct terminal_socket){ .take = on_terminal, .data = exec, .fd = -1 };
	exec->patience = (struct retry){ .fire = out_of_patience, .data = exec };
	exec->in = (struct inpipe){ .stream = stream, .fd = -1 };
	exec->out = exec->err = (struct outpipe){ .stream = stream, .fd = -1 };
	r = begin(exec, preparation, arguments, err);
	if (r < 0) {
		preparation_free(preparation);
		exec_free(exec);
		return r;
	}
	pool_submit(exec->agent->pool, prepare, prepared, preparation);
	*ret_ops = &exec_ops;
	*ret_data = exec;
	return 0;
}

struct lookup {
	const char *job;
	struct exec *found;
};

static void match(void *data, void *argument)
{
	struct lookup *lookup = argument;
	struct exec *exec = data;

	if (strcmp(exec->job, lookup->job) == 0)
		lookup->found = exec;
}

/* What brume-oci said last. */
static void read_failure(struct exec *exec, const char *message)
{
	char text[2048];
	ssize_t n = exec->err.fd < 0 ? 0 : read(exec->err.fd, text, sizeof(text) - 1);

	while (n > 0 && (text[n - 1] == '\n' || !text[n - 1]))
		n--;
	text[n < 0 ? 0 : n] = '\0';
	const char *line = strrchr(text, '\n');
	line = line ? line + 1 : text;
	if (strncmp(line, "brume-oci: ", 11) == 0)
		line += 11;
	error_say(&exec->failure, -EREMOTEIO, "%s", line[0] ? line : message);
}

static void set_exit_code(struct exec *exec, const struct keeper_msg *msg)
{
	int wait_status;

	exec->exit_code = exit_code_of(msg, -1);
	if (exec->exit_code < 0 && exec->pid_fd >= 0 &&
	    pidfd_exit_status(exec->pid_fd, exec->pid, &wait_status) == 0)
		exec->exit_code = WIFSIGNALED(wait_status)
					  ? EXIT_CODE_SIGNAL + WTERMSIG(wait_status)
					  : WEXITSTATUS(wait_status);
	if (exec->exit_code < 0)
		error_say(&exec->failure, -ENODATA,
			  "the command has ended while brume-keeper was restarted: its exit code "
			  "is not known");
}

/* False: the stream has ended. */
static bool on_spawned(struct exec *exec, const struct keeper_msg *msg)
{
	if (exec->pid_fd < 0) {
		exec->pid = msg->pid;
		exec->pid_fd = pidfd_open_pid(msg->pid);
	}
	if (exec->detach) {
		stream_close_code(exec->stream, 0);
		return false;
	}
	outpipe_resume(&exec->err);
	return true;
}

void exec_keeper_event(struct agent *agent, const struct keeper_msg *msg)
{
	struct lookup lookup = { msg->job, NULL };
	bool ended = msg->type == KEEPER_EXITED || msg->type == KEEPER_FAILED;
	struct exec *exec;

	stream_each(agent, &exec_ops, match, &lookup);
	exec = lookup.found;

	/* A detached one goes on without a stream. */
	if (!exec && (msg->job[0] == 'x' || ended))
		agent_drop_job(agent, msg);
	if (!exec)
		return;
	exec->listed = true;
	if (msg->type != KEEPER_REFUSED) {
		exec->confirmed = true;
		close_child_ends(exec);
	}
	if (msg->type == KEEPER_SPAWNED && !on_spawned(exec, msg))
		return;
	if (!ended || exec->ended)
		return;
	exec->ended = true;
	set_exit_code(exec, msg);
	if (msg->type == KEEPER_FAILED)
		read_failure(exec,
			     msg->message ? msg->message : "the command could not be started");
	agent_drop_job(agent, msg);
	/* The terminal may be waiting to be fetched still. */
	terminal_socket_look(&exec->console);
	finish_if_done(exec);
}

static void unlist(void *data, void *argument)
{
	struct exec *exec = data;

	(void) argument;
	exec->listed = false;
}

/* The command goes on without it; the next keeper finds it by its record. */
void exec_keeper_lost(struct agent *agent)
{
	stream_each(agent, &exec_ops, unlist, NULL);
}

static void go_on(void *data, void *argument)
{
	struct exec *exec = data;
	struct error err = {};
	int r = 0;

	(void) argument;
	if (exec->ended || (exec->spawned && exec->listed))
		return;
	retry_stop(&exec->patience);
	/* One that a keeper died over before it was on record never ran. */
	if (exec->waiting || (exec->spawned && !exec->confirmed))
		r = spawn(exec, &err);
	else if (exec->spawned)
		r = error_say(&err, -EIO, "the command was lost while brume-keeper was restarted");
	if (r < 0)
		stream_close_error(exec->stream, &err);
}

void exec_keeper_listed(struct agent *agent)
{
	stream_each(agent, &exec_ops, go_on, NULL);
}
