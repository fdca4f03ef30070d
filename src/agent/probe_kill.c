#include "agent/probe_kill.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/agent_internal.h"
#include "base/mem.h"
#include "base/pool.h"
#include "kern/cgroup.h"
#include "kern/pidfd.h"

enum { ROUNDS_MAX = 20 };

struct order {
	struct agent *agent;
	char uid[UID_SIZE];
	pid_t leader;
};

static bool has_parent_among(const struct probe_kill_process *process,
			     const struct probe_kill_process *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (list[i].pid == process->parent)
			return true;
	return false;
}

size_t probe_kill_choose(struct probe_kill_process *list, size_t count, pid_t leader)
{
	size_t chosen = 0, before;

	do {
		before = chosen;
		for (size_t i = chosen; i < count; i++) {
			struct probe_kill_process one = list[i];

			if (one.pid != leader && one.session != leader &&
			    !has_parent_among(&one, list, chosen))
				continue;
			list[i] = list[chosen];
			list[chosen++] = one;
		}
	} while (chosen > before);
	return chosen;
}

/* -ESRCH for what has ended meanwhile, or is dead and only waits for its parent. */
static int look_at(pid_t pid, struct probe_kill_process *ret)
{
	struct pidfd_stat stat;
	int r = pidfd_read_stat(pid, &stat);

	if (r < 0)
		return r;
	*ret = (struct probe_kill_process){ pid, stat.parent, getsid(pid) };
	return stat.state == 'Z' || ret->session < 0 ? -ESRCH : 0;
}

/* How many were killed. */
static size_t kill_once(const struct cgroup *cgroup, pid_t leader)
{
	AUTO(free) struct probe_kill_process *list = NULL;
	AUTO(free) pid_t *pids = NULL;
	size_t count = 0, known = 0;

	if (cgroup_pids(cgroup, &pids, &count) < 0)
		return 0;
	list = mem_new0_array(struct probe_kill_process, count + 1);
	for (size_t i = 0; i < count; i++)
		if (look_at(pids[i], &list[known]) == 0)
			known++;
	known = probe_kill_choose(list, known, leader);
	for (size_t i = 0; i < known; i++) {
		AUTO(fd_close) int fd = pidfd_open_pid(list[i].pid);
		struct probe_kill_process now;

		/* The same one still, not somebody who got the number since. */
		if (fd >= 0 && look_at(list[i].pid, &now) == 0 && now.session == list[i].session)
			pidfd_send(fd, SIGKILL);
	}
	return known;
}

static void work(void *data)
{
	struct order *order = data;
	AUTO(free)
	char *path = mem_printf("/%s/%s", order->agent->options->prefix, order->uid);
	AUTO(cgroup_free) struct cgroup *cgroup = NULL;

	if (cgroup_open(order->agent->cgroups, path, false, &cgroup) < 0)
		return;
	/* What is killed may have just started another one. */
	for (unsigned int i = 0; i < ROUNDS_MAX && kill_once(cgroup, order->leader) > 0; i++)
		;
}

static void done(void *data)
{
	free(data);
}

void probe_kill(struct agent *agent, const char *uid, pid_t leader)
{
	struct order *order = mem_new0(struct order);

	order->agent = agent;
	order->leader = leader;
	snprintf(order->uid, sizeof(order->uid), "%s", uid);
	pool_submit(agent->pool, work, done, order);
}
