#include "agent/network_server.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "agent/agent_internal.h"
#include "base/error.h"
#include "base/mem.h"

static const struct {
	char mark;
	const char *log;
} kinds[NETWORK_SERVER_COUNT] = {
	[NETWORK_NAMES] = { 'd', "log" },
	[NETWORK_LEASES] = { 'a', "dhcp.log" },
};

static void job_name(const char *uid, enum network_server_kind kind, char ret[KEEPER_JOB_MAX + 1])
{
	snprintf(ret, KEEPER_JOB_MAX + 1, "%c-%s", kinds[kind].mark, uid);
}

/* What dnsmasq says goes to a file that begins anew with each start: it is little. */
static int start(const struct network_server *server, const struct agent *agent,
		 struct keeper_client *keeper, const char *uid, enum network_server_kind kind,
		 struct error *err)
{
	AUTO(free)
	char *path = mem_printf("%s/networks/%s/%s", agent->options->run, uid, kinds[kind].log);
	AUTO(fd_close)
	int log = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	char job[KEEPER_JOB_MAX + 1];
	char *env[] = { (char *) "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	int fds[] = { log, log };
	static const int as[] = { 1, 2 };

	job_name(uid, kind, job);
	struct keeper_spawn spawn = { .job = job,
				      .stdio = KEEPER_GIVEN,
				      .argv = server->argv,
				      .env = env,
				      .fd_count = log < 0 ? 0 : 2,
				      .fds = fds,
				      .fds_as = as };
	return keeper_client_spawn(keeper, &spawn, err);
}

int network_server_advance(struct network_server *server, const struct agent *agent,
			   struct keeper_client *keeper, const char *uid,
			   enum network_server_kind kind, bool needed, bool may_start,
			   struct error *err)
{
	char job[KEEPER_JOB_MAX + 1];
	int r;

	job_name(uid, kind, job);
	switch (server->state) {
	case NETWORK_SERVER_RUNNING:
		if (needed && !server->old)
			return 1;
		/* It holds nothing that would need a farewell. */
		if (!server->killed)
			keeper_client_signal(keeper, job, SIGKILL);
		server->killed = true;
		return 0;
	case NETWORK_SERVER_ENDED:
		keeper_client_forget(keeper, job);
		server->state = NETWORK_SERVER_NONE;
		break;
	case NETWORK_SERVER_NONE:
		break;
	}
	if (!needed)
		return 1;
	if (!may_start)
		return 0;
	r = start(server, agent, keeper, uid, kind, err);
	if (r < 0)
		return r;
	server->state = NETWORK_SERVER_RUNNING;
	server->old = server->killed = false;
	return 1;
}

enum network_server_kind network_server_kind_of(const struct keeper_msg *msg)
{
	return msg->job[0] == kinds[NETWORK_LEASES].mark ? NETWORK_LEASES : NETWORK_NAMES;
}

bool network_server_keeper_event(struct network_server *server, const struct keeper_msg *msg)
{
	server->listed = true;
	switch (msg->type) {
	case KEEPER_STARTING:
	case KEEPER_SPAWNED:
		server->state = NETWORK_SERVER_RUNNING;
		return false;
	case KEEPER_EXITED:
	case KEEPER_FAILED:
		server->state = NETWORK_SERVER_ENDED;
		return !server->killed;
	default:
		return false;
	}
}
