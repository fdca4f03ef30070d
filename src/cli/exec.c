#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "cli/cli.h"
#include "cli/signals.h"
#include "cli/stream.h"
#include "cli/terminal.h"
#include "cli/verb.h"
#include "client/client.h"
#include "codec/uri.h"
#include "model/member.h"

enum {
	CHANNEL_IN = 0,
	CHANNEL_OUT = 1,
	CHANNEL_ERR = 2,
	EXEC_INPUT_BYTES = 16 * 1024,
	EXEC_QUEUE_MAX_BYTES = 256 * 1024, /* then the input waits */
	EXEC_IMPATIENT = 3,                /* that many Ctrl-C without an answer leave */
};

struct exec_options {
	char **env;
	const char *workdir, *user;
	bool interactive, tty, detach;
};

#define EXEC(member) offsetof(struct exec_options, member)

static const struct option_def exec_options[] = {
	{ 'i', "interactive", NULL, OPTION_FLAG, EXEC(interactive), "pass our input on" },
	{ 't', "tty", NULL, OPTION_FLAG, EXEC(tty), "give it a terminal" },
	{ 'd', "detach", NULL, OPTION_FLAG, EXEC(detach), "do not wait for its end" },
	{ 'e', "env", "NAME=VALUE", OPTION_LIST, EXEC(env), "an environment variable" },
	{ 'w', "workdir", "DIR", OPTION_STRING, EXEC(workdir), "folder to start in" },
	{ 'u', "user", "USER[:GROUP]", OPTION_STRING, EXEC(user), "user inside" },
	{},
};

/* One running command. */
struct exec {
	struct cli *cli;
	struct websocket *websocket;
	struct signals signals;
	bool input_open;
	bool broken_out, broken_err; /* nobody reads our output any more */
	bool tty;
	bool ended;
	int exit_code;
	unsigned int interrupts;
};

static int exec_send_json(struct exec *exec, json_t *message, struct error *err)
{
	AUTO(free) char *text = json_text(message);

	json_decref(message);
	return websocket_send(exec->websocket, true, text, strlen(text), err);
}

/* What the server could only say in its own words. */
static int exec_check(struct cli *cli, const struct exec_options *options, struct error *err)
{
	for (char **p = options->env; p && *p; p++)
		if (!**p || **p == '=')
			return cli_usage(cli, err, "--env \"%s\": it should look like NAME=VALUE",
					 *p);
	if (options->workdir && options->workdir[0] && options->workdir[0] != '/')
		return cli_usage(cli, err, "--workdir \"%s\": must be an absolute path",
				 options->workdir);
	return 0;
}

static int exec_send_arguments(struct exec *exec, const struct exec_options *options,
			       char *const *command, struct error *err)
{
	AUTO(strv_free) char **env = NULL;
	json_t *message = json_object();
	unsigned int width, height;

	for (char **p = options->env; p && *p; p++) {
		const char *value = strchr(*p, '=');
		AUTO(free)
		char *name = value ? mem_strndup(*p, (size_t) (value - *p)) : mem_strdup(*p);

		value = value ? value + 1 : getenv(name);
		if (value)
			strv_env_set(&env, name, value);
	}
	json_put_strv(message, "command", command);
	member_put_map(message, "env", env);
	json_put_string(message, "workdir", options->workdir);
	json_put_string(message, "user", options->user);
	if (options->detach)
		json_object_set_new(message, "detach", json_true());
	if (options->tty) {
		terminal_size(isatty(STDIN_FILENO) ? STDIN_FILENO : STDOUT_FILENO, &width, &height);
		json_object_set_new(message, "tty", json_true());
		json_object_set_new(message, "width", json_integer(width));
		json_object_set_new(message, "height", json_integer(height));
	}
	return exec_send_json(exec, message, err);
}

static int exec_send_eof(struct exec *exec, struct error *err)
{
	exec->input_open = false;
	return exec_send_json(exec, json_pack("{s:b}", "eof", 1), err);
}

static int exec_message(void *userdata, bool text, const char *data, size_t size, struct error *err)
{
	struct exec *exec = userdata;
	bool *broken;
	int r, exit_code = -1;

	if (exec->ended)
		return 0;
	if (text) {
		r = stream_control(data, size, &exit_code, err);
		if (exit_code < 0)
			return r;
		exec->ended = true;
		exec->exit_code = exit_code;
		/* It could not be run at all: the code says so, as a shell's does. */
		if (r < 0)
			cli_print_error(exec->cli, err->msg);
		return 0;
	}
	if (size < 1 || (data[0] != CHANNEL_OUT && data[0] != CHANNEL_ERR))
		return 0;
	broken = data[0] == CHANNEL_ERR ? &exec->broken_err : &exec->broken_out;
	if (*broken)
		return 0;
	r = terminal_write(data[0] == CHANNEL_ERR ? STDERR_FILENO : STDOUT_FILENO, data + 1,
			   size - 1);
	if (r ==
	    -EPIPE) { /* like a pipe in a shell: the command goes on and is told by its own means */
		*broken = true;
		return exec_send_json(exec, json_pack("{s:s}", "signal", "PIPE"), err);
	}
	return r < 0 ? error_set(err, r, "cannot write the command's output") : 0;
}

static int exec_read_input(struct exec *exec, struct error *err)
{
	char data[1 + EXEC_INPUT_BYTES];
	ssize_t n = read(STDIN_FILENO, data + 1, EXEC_INPUT_BYTES);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0) /* an error of a terminal that went away is its end */
		return exec_send_eof(exec, err);
	data[0] = CHANNEL_IN;
	return websocket_send(exec->websocket, false, data, 1 + (size_t) n, err);
}

/* Returns 0, or -EINTR when the user does not want to wait any more. */
static int exec_take_signal(struct exec *exec, struct error *err)
{
	static const struct {
		int number;
		const char *name;
	} names[] = { { SIGINT, "INT" },   { SIGTERM, "TERM" }, { SIGHUP, "HUP" },
		      { SIGQUIT, "QUIT" }, { SIGUSR1, "USR1" }, { SIGUSR2, "USR2" } };
	int signal = signals_take(&exec->signals);
	unsigned int width, height;

	if (signal == SIGWINCH) {
		if (!exec->tty)
			return 0;
		terminal_size(STDIN_FILENO, &width, &height);
		return exec_send_json(exec,
				      json_pack("{s:{s:i,s:i}}", "resize", "width", (int) width,
						"height", (int) height),
				      err);
	}
	if ((signal == SIGINT || signal == SIGTERM) && ++exec->interrupts >= EXEC_IMPATIENT)
		return error_say(err, -EINTR, "left; the command may still run");
	for (size_t i = 0; i < ARRAY_COUNT(names); i++)
		if (names[i].number == signal)
			return exec_send_json(exec, json_pack("{s:s}", "signal", names[i].name),
					      err);
	return 0;
}

static int exec_loop(struct exec *exec, struct error *err)
{
	while (!exec->ended) {
		short events = websocket_events(exec->websocket);
		bool room = websocket_queued_bytes(exec->websocket) < EXEC_QUEUE_MAX_BYTES;
		struct pollfd fds[] = {
			{ websocket_fd(exec->websocket), events, 0 },
			{ exec->signals.fd, POLLIN, 0 },
			{ exec->input_open && room ? STDIN_FILENO : -1, POLLIN, 0 },
		};
		int r = poll(fds, 3, events ? -1 : 0);

		if (r < 0 && errno != EINTR)
			return error_set(err, -errno, "cannot wait for the server");
		r = 0;
		if (fds[1].revents)
			r = exec_take_signal(exec, err);
		if (r == 0 && fds[2].revents)
			r = exec_read_input(exec, err);
		if (r == 0)
			r = websocket_process(exec->websocket, err);
		if (exec->ended)
			return 0;
		if (r < 0)
			return r;
		if (r > 0)
			return error_say(err, -EPIPE,
					 "the server closed the stream before the command ended");
	}
	return 0;
}

static int exec_run_stream(struct exec *exec, const struct exec_options *options,
			   char *const *command, struct error *err)
{
	static const int signals[] = { SIGINT,  SIGTERM, SIGHUP,   SIGQUIT, SIGUSR1,
				       SIGUSR2, SIGPIPE, SIGWINCH, 0 };
	int r = signals_begin(&exec->signals, signals, err);

	if (r == 0)
		r = exec_send_arguments(exec, options, command, err);
	if (r == 0 && !options->interactive)
		r = exec_send_eof(exec, err);
	if (r == 0 && options->tty && options->interactive)
		r = terminal_raw(STDIN_FILENO, err);
	if (r == 0)
		r = exec_loop(exec, err);
	terminal_restore();
	/* A SIGPIPE that is still pending would kill us when it is unblocked. */
	while (exec->signals.fd >= 0 && signals_take(&exec->signals))
		;
	signals_end(&exec->signals);
	return r;
}

static int exec_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		    struct error *err)
{
	const struct exec_options *options = userdata;
	AUTO(websocket_free) struct websocket *websocket = NULL;
	AUTO(free) char *name = uri_encode(arguments->words[0]);
	AUTO(free) char *path = mem_printf("/instances/%s/exec", name);
	struct exec exec = { .cli = cli,
			     .signals.fd = -1,
			     .tty = options->tty,
			     .input_open = options->interactive };
	struct client *client = NULL;
	int r;

	if (!arguments->command) {
		cli_set_hint(cli, "like: brume exec -it %s sh", arguments->words[0]);
		return cli_usage(cli, err, "exec: the command to run is missing");
	}
	if (options->detach && (options->tty || options->interactive))
		return cli_usage(cli, err, "exec: -d goes neither with -i nor with -t");
	if (options->tty && options->interactive && !isatty(STDIN_FILENO)) {
		cli_set_hint(cli, "leave -t out when the input is a file or a pipe");
		return cli_usage(cli, err, "exec: -it needs a terminal, and the input is none");
	}
	r = exec_check(cli, options, err);
	if (r == 0)
		r = cli_connect(cli, &client, err);
	if (r < 0)
		return r;
	r = client_open_websocket(client, path, &websocket, err);
	if (r < 0) {
		cli_failed(cli, path, r);
		if (client_status(client) == 409)
			cli_set_hint(cli, "`brume start %s` or `brume resume %s` makes it run",
				     arguments->words[0], arguments->words[0]);
		return r;
	}
	exec.websocket = websocket;
	websocket_set_handler(websocket, exec_message, &exec);
	r = exec_run_stream(&exec, options, arguments->command, err);
	return r < 0 ? r : exec.exit_code;
}

const struct verb verb_exec = {
	.name = "exec",
	.synopsis = "[-i] [-t] [-d] [-e NAME=VALUE] [-w DIR] [-u USER] NAME [--] COMMAND [ARG...]",
	.summary = "Run a command inside a running instance",
	.help = "The exit code is the command's (128 + the signal that killed it; 127 when there "
		"is "
		"no such\n"
		"program, 126 when it cannot be executed).  Without -t its "
		"output and\n"
		"error output stay apart; signals that brume gets are passed on.\n\n"
		"Examples:\n  brume exec -it web sh\n  brume exec web cat /etc/hosts\n"
		"  brume exec -i db psql < dump.sql\n"
		"  brume exec -d web sh -c 'sleep 60; kill -HUP 1'\n",
	.options = exec_options,
	.options_size = sizeof(struct exec_options),
	.words_min = 1,
	.words_max = 1,
	.has_command = true,
	.completion = COMPLETE_INSTANCE,
	.run = exec_run,
};
