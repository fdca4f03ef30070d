/* The image's command: spawned, fed, listened to, waited for. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/signame.h"
#include "guest/guest_internal.h"
#include "guest/poller.h"
#include "guest/port.h"
#include "guest/spawn.h"

enum {
	SIGNAL_EXIT_BASE = 128,
	DRAIN_MS = 10000, /* for a host that does not read what the command has written */
};

struct command {
	struct guest *guest;
	pid_t pid;
	int terminal_fd; /* our end, for its size; or -1 */
	struct pump *in, *out, *err;
	struct poller_watch *kill_timer, *drain_timer;
	bool ended;
	int exit_code;
};

static void stop_loop(void *data)
{
	struct command *command = data;

	poller_stop(command->guest->poller);
}

/* What a process that was left behind still writes does not count. */
static void finish_if_drained(void *data)
{
	struct command *command = data;

	if (!command->ended)
		return;
	if ((!command->out || pump_flush(command->out)) &&
	    (!command->err || pump_flush(command->err)))
		stop_loop(command);
}

static int start_pump(struct command *command, int from, int to, bool from_port, const char *at_end,
		      struct pump **ret, struct error *err)
{
	struct pump_options options = { .from = from,
					.to = to,
					.from_port = from_port,
					.ended = from_port ? NULL : finish_if_drained,
					.data = command,
					.at_end = at_end };

	return pump_new(command->guest->poller, &options, ret, err);
}

static int make_pipe(int fds[2], int ours, struct error *err)
{
	if (pipe2(fds, O_CLOEXEC) < 0 || fcntl(fds[ours], F_SETFL, O_NONBLOCK) < 0)
		return error_set(err, -errno, "pipe");
	return 0;
}

/* One of its outputs: a pipe that is handed on to a port. */
static int open_output(struct command *command, const char *name, int *ret_child, struct pump **ret,
		       struct error *err)
{
	int port = port_open(name, err), fds[2], r;

	if (port < 0)
		return port;
	r = make_pipe(fds, 0, err);
	if (r < 0)
		return r;
	*ret_child = fds[1];
	return start_pump(command, fds[0], port, false, NULL, ret, err);
}

static int open_input(struct command *command, int *ret_child, struct error *err)
{
	int port, fds[2], r;

	if (!command->guest->config.input) {
		*ret_child = open("/dev/null", O_RDONLY | O_CLOEXEC);
		return *ret_child < 0 ? error_set(err, -errno, "open /dev/null") : 0;
	}
	port = port_open("brume.in", err);
	if (port < 0)
		return port;
	r = make_pipe(fds, 1, err);
	if (r < 0)
		return r;
	*ret_child = fds[0];
	return start_pump(command, port, fds[1], true, NULL, &command->in, err);
}

static int open_terminal(struct command *command, int stdio[3], struct error *err)
{
	const struct oci_process *process = command->guest->config.process;
	int master, slave, out = port_open("brume.out", err), in, r;

	if (out < 0)
		return out;
	r = spawn_terminal(process->console_width, process->console_height, &master, &slave, err);
	if (r < 0)
		return r;
	command->terminal_fd = fcntl(master, F_DUPFD_CLOEXEC, 0);
	stdio[0] = stdio[1] = stdio[2] = slave;
	r = start_pump(command, fcntl(master, F_DUPFD_CLOEXEC, 0), out, false, NULL, &command->out,
		       err);
	if (r < 0 || !command->guest->config.input) {
		close(master);
		return r;
	}
	in = port_open("brume.in", err);
	if (in < 0)
		return in;
	/* A terminal has no end; its reader gets the character that says so. */
	return start_pump(command, in, master, true, "\4", &command->in, err);
}

static int open_stdio(struct command *command, int stdio[3], struct error *err)
{
	int r;

	if (command->guest->config.process->terminal)
		return open_terminal(command, stdio, err);
	r = open_input(command, &stdio[0], err);
	if (r == 0)
		r = open_output(command, "brume.out", &stdio[1], &command->out, err);
	if (r == 0)
		r = open_output(command, "brume.err", &stdio[2], &command->err, err);
	return r;
}

int command_start(struct guest *guest, int *ret_code, struct error *err)
{
	const struct guest_config *config = &guest->config;
	struct command *command = mem_new0(struct command);
	int stdio[3] = { -1, -1, -1 };
	int r;

	*ret_code = 1;
	command->guest = guest;
	command->terminal_fd = -1;
	guest->command = command;
	r = open_stdio(command, stdio, err);
	if (r < 0)
		return r;
	struct spawn options = { .process = config->process,
				 .user = config->user,
				 .stdio = { stdio[0], stdio[1], stdio[2] },
				 .terminal = config->process->terminal,
				 .first = true,
				 .reap = config->reap,
				 .limited = config->pids_max > 0 };
	r = spawn(&options, &command->pid, ret_code, err);
	fd_close(stdio[0]);
	if (stdio[1] != stdio[0]) {
		fd_close(stdio[1]);
		fd_close(stdio[2]);
	}
	return r;
}

void command_signal(struct guest *guest, int number)
{
	if (guest->command && guest->command->pid > 0 && !guest->command->ended)
		kill(guest->command->pid, number);
}

void command_resize(struct guest *guest, uint32_t width, uint32_t height)
{
	struct winsize size = { .ws_col = (unsigned short) width,
				.ws_row = (unsigned short) height };

	if (guest->command && guest->command->terminal_fd >= 0 && width > 0 && height > 0)
		ioctl(guest->command->terminal_fd, TIOCSWINSZ, &size);
}

pid_t command_pid(const struct guest *guest)
{
	return guest->command ? guest->command->pid : 0;
}

static void kill_command(void *data)
{
	struct command *command = data;

	command_signal(command->guest, SIGKILL);
}

void command_stop(struct guest *guest, uint64_t grace_ms)
{
	struct command *command = guest->command;
	int number = guest->config.stop_signal ? signame_number(guest->config.stop_signal) : 0;

	if (!command || command->ended)
		return;
	poller_unwatch(TAKE_PTR(command->kill_timer));
	if (grace_ms == 0) {
		kill_command(command);
		return;
	}
	command_signal(guest, number > 0 ? number : SIGTERM);
	command->kill_timer = poller_watch_timer(guest->poller, grace_ms, kill_command, command);
}

bool command_reaped(struct guest *guest, pid_t pid, int wait_status)
{
	struct command *command = guest->command;

	if (!command || command->ended || pid != command->pid)
		return false;
	command->ended = true;
	command->exit_code = WIFSIGNALED(wait_status) ? SIGNAL_EXIT_BASE + WTERMSIG(wait_status)
						      : WEXITSTATUS(wait_status);
	guest->state = GUEST_ENDING;
	poller_unwatch(TAKE_PTR(command->kill_timer));
	command->drain_timer = poller_watch_timer(guest->poller, DRAIN_MS, stop_loop, command);
	finish_if_drained(command);
	return true;
}

int command_exit_code(const struct guest *guest)
{
	return guest->command->exit_code;
}
