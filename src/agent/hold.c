#include "agent/hold.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uthash.h>

#include "agent/agent_internal.h"
#include "base/mem.h"
#include "keeper/client.h"
#include "kern/pidfd.h"
#include "kern/sock.h"

struct hold {
	UT_hash_handle hh;
	char job[KEEPER_JOB_MAX + 1];
	bool listed;
	int out_fd, err_fd, in_fd, console_fd;
	int pid_fd; /* of its process: the kernel keeps the exit code as long as we do */
	pid_t pid;
};

static struct hold *find(struct agent *agent, const char *job)
{
	struct hold *hold;

	HASH_FIND_STR(agent->holds, job, hold);
	return hold;
}

static void hold_free(struct agent *agent, struct hold *hold)
{
	HASH_DEL(agent->holds, hold);
	fd_close(hold->out_fd);
	fd_close(hold->err_fd);
	fd_close(hold->in_fd);
	fd_close(hold->console_fd);
	fd_close(hold->pid_fd);
	free(hold);
}

/* -1 when there is no such FIFO, or nobody at its other end. */
static int open_fifo(struct agent *agent, const char *job, const char *which, int flags)
{
	AUTO(free) char *path = mem_printf("%s/fifo/%s.%s", agent->options->run, job, which);

	return open(path, flags | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
}

static void take(struct agent *agent, const struct keeper_msg *msg, int *console_fd)
{
	const char *job = msg->job;
	struct hold *hold = find(agent, job);

	if (!hold) {
		hold = mem_new0(struct hold);
		memcpy(hold->job, job, strlen(job) + 1);
		hold->out_fd = open_fifo(agent, job, "out", O_RDONLY);
		hold->err_fd = open_fifo(agent, job, "err", O_RDONLY);
		hold->in_fd = open_fifo(agent, job, "in", O_WRONLY);
		hold->console_fd = hold->pid_fd = -1;
		HASH_ADD_STR(agent->holds, job, hold);
	}
	hold->listed = true;
	if (hold->console_fd < 0)
		hold->console_fd = TAKE_FD(*console_fd);
	if (msg->type == KEEPER_SPAWNED && hold->pid_fd < 0) {
		hold->pid = msg->pid;
		hold->pid_fd = pidfd_open_pid(msg->pid);
	}
}

static void fill_in_exit_code(const struct hold *hold, struct keeper_msg *msg)
{
	int wait_status;

	if (msg->type != KEEPER_EXITED || msg->exit_kind != KEEPER_EXIT_UNKNOWN ||
	    hold->pid_fd < 0 || pidfd_exit_status(hold->pid_fd, hold->pid, &wait_status) < 0)
		return;
	msg->exit_kind = WIFSIGNALED(wait_status) ? KEEPER_EXIT_SIGNAL : KEEPER_EXIT_CODE;
	msg->exit_value =
		WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

void hold_keeper_event(struct agent *agent, struct keeper_msg *msg, int *console_fd)
{
	struct hold *hold;

	if (strncmp(msg->job, "i-", 2) != 0)
		return;
	if (msg->type == KEEPER_STARTING || msg->type == KEEPER_SPAWNED) {
		take(agent, msg, console_fd);
	} else if (msg->type == KEEPER_EXITED || msg->type == KEEPER_FAILED) {
		/* The keeper has read everything before it said so. */
		hold = find(agent, msg->job);
		if (hold) {
			fill_in_exit_code(hold, msg);
			hold_free(agent, hold);
		}
	}
}

void hold_keeper_lost(struct agent *agent)
{
	struct hold *hold, *next;

	HASH_ITER(hh, agent->holds, hold, next)
	hold->listed = false;
}

void hold_keeper_listed(struct agent *agent)
{
	struct hold *hold, *next;

	HASH_ITER(hh, agent->holds, hold, next)
	if (!hold->listed)
		hold_free(agent, hold);
}

void hold_give_back(struct agent *agent, struct keeper_client *client)
{
	struct hold *hold, *next;

	HASH_ITER(hh, agent->holds, hold, next)
	if (hold->console_fd >= 0)
		keeper_client_hold(client, hold->job, hold->console_fd);
}

int hold_open_input(struct agent *agent, const char *job)
{
	struct hold *hold = find(agent, job);
	int fd;

	if (!hold)
		return -ENOENT;
	if (hold->console_fd >= 0)
		return sock_peek_fd(hold->console_fd);
	if (hold->in_fd < 0)
		return -ENOENT;
	fd = fcntl(hold->in_fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

void hold_end_input(struct agent *agent, const char *job)
{
	struct keeper_client *keeper = agent_keeper(agent);
	AUTO(free) char *path = mem_printf("%s/fifo/%s.in", agent->options->run, job);
	struct hold *hold = find(agent, job);

	if (hold) {
		fd_close(hold->in_fd);
		hold->in_fd = -1;
	}
	/* A keeper to come finds it by name, if at all. */
	unlink(path);
	if (keeper)
		keeper_client_end_input(keeper, job);
}

void hold_free_all(struct agent *agent)
{
	struct hold *hold, *next;

	HASH_ITER(hh, agent->holds, hold, next)
	hold_free(agent, hold);
}
