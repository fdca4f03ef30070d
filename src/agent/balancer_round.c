#include "agent/balancer_round.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <utlist.h>

#include "agent/agent_internal.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/strv.h"

enum {
	AT_A_TIME = 16,        /* of the node */
	PROBES_AT_A_TIME = 64, /* addresses that brume-probe checks at once */
	GRACE_MS = 1000,
	TIMER_ACCURACY_MS = 50,
};

struct balancer_round {
	struct balancer_round *prev, *next;
	struct agent *agent;
	char job[KEEPER_JOB_MAX + 1];
	size_t count; /* addresses */
	balancer_round_fn done;
	void *data;
	int out_fd;
	sd_event_source *out, *timer;
	char letters[BALANCER_ROUND_MAX + 2]; /* a line end, and a byte that should not come */
	size_t size;
};

static void round_free(struct balancer_round *round)
{
	DL_DELETE(round->agent->balancer_rounds, round);
	sd_event_source_disable_unref(round->out);
	sd_event_source_disable_unref(round->timer);
	fd_close(round->out_fd);
	free(round);
}

static void read_output(struct balancer_round *round)
{
	char spare[64];
	ssize_t n;

	do {
		size_t room = sizeof(round->letters) - round->size;

		n = read(round->out_fd, room > 0 ? round->letters + round->size : spare,
			 room > 0 ? room : sizeof(spare));
		if (n > 0 && room > 0)
			round->size += (size_t) n;
	} while (n > 0);
	if (n == 0)
		round->out = sd_event_source_disable_unref(round->out);
}

static int on_output(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	(void) source;
	(void) fd;
	(void) revents;
	read_output(data);
	return 0;
}

static void finish(struct balancer_round *round, bool ended)
{
	balancer_round_fn done = round->done;
	void *data = round->data;
	char letters[BALANCER_ROUND_MAX + 1] = "";
	bool whole;

	read_output(round);
	/* What reads strangers' bytes has written this: it has the right size, or it is nothing. */
	whole = ended && round->size == round->count + 1 && round->letters[round->count] == '\n';
	if (whole)
		memcpy(letters, round->letters, round->count);
	round_free(round);
	done(data, whole ? letters : NULL);
}

static void kill_job(struct balancer_round *round)
{
	struct keeper_client *keeper = agent_keeper(round->agent);

	if (keeper)
		keeper_client_signal(keeper, round->job, SIGKILL);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	(void) source;
	(void) usec;
	kill_job(data);
	finish(data, false);
	return 0;
}

static int spawn(struct balancer_round *round, const struct balancer_check *check, uint16_t port,
		 char *const *addresses, int out_fd, struct error *err)
{
	struct keeper_client *keeper = agent_keeper(round->agent);
	AUTO(strv_free) char **argv = NULL;
	char *env[] = { (char *) "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	const int fds[] = { out_fd, out_fd };
	static const int as[] = { STDOUT_FILENO, STDERR_FILENO };
	struct keeper_spawn order = { .job = round->job,
				      .mode = KEEPER_DIRECT,
				      .stdio = KEEPER_GIVEN,
				      .env = env,
				      .fd_count = 2,
				      .fds = fds,
				      .fds_as = as };

	strv_append(&argv, round->agent->options->probe);
	strv_append(&argv, "--timeout-ms");
	strv_append_take(&argv, mem_printf("%u", check->timeout_ms));
	strv_append(&argv, "many");
	strv_append_take(&argv, mem_printf("%u", port));
	strv_append(&argv, check->type == BALANCER_CHECK_HTTP ? check->path : "-");
	for (size_t i = 0; i < round->count; i++)
		strv_append(&argv, addresses[i]);
	order.argv = argv;
	return keeper ? keeper_client_spawn(keeper, &order, err)
		      : error_say(err, -EAGAIN, "brume-keeper is not running");
}

static unsigned int count_rounds(const struct agent *agent)
{
	const struct balancer_round *round;
	unsigned int count = 0;

	DL_FOREACH(agent->balancer_rounds, round)
	count++;
	return count;
}

static int begin(struct balancer_round *round, const struct balancer_check *check, uint16_t port,
		 char *const *addresses, struct error *err)
{
	sd_event *event = round->agent->event;
	size_t turns = (round->count + PROBES_AT_A_TIME - 1) / PROBES_AT_A_TIME;
	uint64_t timeout_ms = check->timeout_ms * turns + GRACE_MS;
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "pipe");
	AUTO(fd_close) int child_out = fds[1];
	round->out_fd = fds[0];
	if (fcntl(round->out_fd, F_SETFL, O_NONBLOCK) < 0)
		return error_set(err, -errno, "pipe");
	r = sd_event_add_io(event, &round->out, round->out_fd, EPOLLIN, on_output, round);
	if (r >= 0)
		r = sd_event_add_time_relative(event, &round->timer, CLOCK_MONOTONIC,
					       timeout_ms * 1000, TIMER_ACCURACY_MS * 1000,
					       on_timer, round);
	if (r < 0)
		return error_set(err, r, "watch a check");
	return spawn(round, check, port, addresses, child_out, err);
}

int balancer_round_start(struct agent *agent, const struct balancer_check *check, uint16_t port,
			 char *const *addresses, balancer_round_fn done, void *data,
			 struct balancer_round **ret, struct error *err)
{
	struct balancer_round *round;
	size_t count = strv_count(addresses);
	int r;

	if (count == 0 || count > BALANCER_ROUND_MAX)
		return error_say(err, -EINVAL, "%zu addresses in one round of checks", count);
	if (count_rounds(agent) >= AT_A_TIME)
		return error_say(err, -EAGAIN, "%d rounds of checks are under way", AT_A_TIME);
	round = mem_new0(struct balancer_round);
	round->agent = agent;
	round->count = count;
	round->done = done;
	round->data = data;
	round->out_fd = -1;
	snprintf(round->job, sizeof(round->job), "l-%08x-%llx", agent->salt,
		 (unsigned long long) ++agent->probe_number);
	DL_APPEND(agent->balancer_rounds, round);
	r = begin(round, check, port, addresses, err);
	if (r < 0) {
		round_free(round);
		return r;
	}
	*ret = round;
	return 0;
}

void balancer_round_cancel(struct balancer_round *round)
{
	if (!round)
		return;
	kill_job(round);
	round_free(round);
}

const char *balancer_round_words(char letter)
{
	switch (letter) {
	case 'r':
		return "connection refused";
	case 't':
		return "no answer in time";
	case 'h':
		return "what answers does not speak HTTP";
	case 's':
		return "it answers with another status than 200 to 399";
	default:
		return "not reachable";
	}
}

void balancer_round_keeper_event(struct agent *agent, const struct keeper_msg *msg)
{
	struct balancer_round *round;

	DL_FOREACH(agent->balancer_rounds, round)
	{
		if (strcmp(round->job, msg->job) == 0)
			break;
	}
	if (!round) {
		agent_drop_job(agent, msg);
		return;
	}
	if (msg->type != KEEPER_EXITED && msg->type != KEEPER_FAILED)
		return;
	if (agent_keeper(agent))
		keeper_client_forget(agent_keeper(agent), msg->job);
	finish(round, msg->type == KEEPER_EXITED);
}

void balancer_rounds_keeper_lost(struct agent *agent)
{
	struct balancer_round *round, *next;

	DL_FOREACH_SAFE(agent->balancer_rounds, round, next)
	finish(round, false);
}

void balancer_rounds_free(struct agent *agent)
{
	struct balancer_round *round, *next;

	DL_FOREACH_SAFE(agent->balancer_rounds, round, next)
	round_free(round);
}
