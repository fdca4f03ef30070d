#include "agent/balancer_task.h"

#include <stdio.h>
#include <string.h>

#include "agent/agent_internal.h"
#include "agent/network_actor.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/strv.h"
#include "net/balance.h"

/* What net/ is told; its texts are the task's. */
struct order {
	struct balance_spec spec;
	struct balance_listen *listens;
	struct balance_member *members;
};

static void order_done_autop(struct order *order)
{
	free(order->listens);
	free(order->members);
}

static enum balance_algorithm algorithm_of(enum balancer_algorithm algorithm)
{
	switch (algorithm) {
	case BALANCER_LEAST_CONNECTIONS:
		return BALANCE_LEAST_CONNECTIONS;
	case BALANCER_SOURCE_HASH:
		return BALANCE_SOURCE_HASH;
	default:
		return BALANCE_ROUND_ROBIN;
	}
}

static void order_make(const struct balancer_task *task, const struct balancer_person *members,
		       size_t count, struct order *order)
{
	order->listens = mem_new0_array(struct balance_listen, task->listen_count + 1);
	order->members = mem_new0_array(struct balance_member, count + 1);
	for (size_t i = 0; i < task->listen_count; i++)
		order->listens[i] =
			(struct balance_listen){ .protocol =
							 protocol_name(task->listens[i].protocol),
						 .address = task->listens[i].address,
						 .vip = task->listens[i].vip,
						 .port = task->listens[i].port,
						 .target_port = task->listens[i].target_port };
	for (size_t i = 0; i < count; i++)
		order->members[i] =
			(struct balance_member){ .ipv4 = members[i].ipv4,
						 .ipv6 = members[i].ipv6,
						 .connections = members[i].connections };
	order->spec = (struct balance_spec){ .uid = task->uid,
					     .network_uid = task->network_uid,
					     .routed = task->routed,
					     .vip4 = task->vip4,
					     .vip6 = task->vip6,
					     .algorithm = algorithm_of(task->algorithm),
					     .listens = order->listens,
					     .listen_count = task->listen_count,
					     .members = order->members,
					     .member_count = count };
}

static int ensure(struct balancer_task *task)
{
	AUTO(order_done) struct order order = {}, gone = {};
	struct error err = {};
	int r;

	order_make(task, task->members, task->member_count, &order);
	r = balance_ensure(task->agent->net, &order.spec, &task->err);
	if (r < 0 || task->gone_count == 0)
		return r;
	order_make(task, task->gone, task->gone_count, &gone);
	/* Else they end by themselves, when they have been quiet for a while. */
	if (balance_forget(&gone.spec, &err) < 0)
		log_warning("balancer %s: %s", task->uid, err.msg);
	return 0;
}

static int count(struct balancer_task *task)
{
	AUTO(free) uint32_t *counts = mem_new0_array(uint32_t, task->member_count + 1);
	AUTO(order_done) struct order order = {};
	int r;

	order_make(task, task->members, task->member_count, &order);
	r = balance_count(&order.spec, counts, &task->err);
	for (size_t i = 0; r == 0 && i < task->member_count; i++)
		task->members[i].connections = counts[i];
	return r;
}

static void work(void *data)
{
	struct balancer_task *task = data;
	struct net *net = task->agent->net;

	switch (task->kind) {
	case BALANCER_TASK_LOOK:
		task->result = balance_members(net, task->uid, &task->in_force, &task->err);
		break;
	case BALANCER_TASK_ENSURE:
		task->result = ensure(task);
		break;
	case BALANCER_TASK_COUNT:
		task->result = count(task);
		break;
	case BALANCER_TASK_REMOVE:
		task->result = balance_remove(net, task->uid, &task->err);
		break;
	}
}

static void finished(void *data)
{
	struct balancer_task *task = data;

	task->done(task);
	free(task->listens);
	free(task->members);
	free(task->gone);
	strv_free(task->in_force);
	free(task);
}

struct balancer_task *balancer_task_new(struct agent *agent, enum balancer_task_kind kind,
					const char *uid, const struct balancer *want)
{
	struct balancer_task *task = mem_new0(struct balancer_task);
	const struct balancer_spec *spec = want ? &want->spec : NULL;
	struct network_args network = {};
	const char *error = NULL;

	task->kind = kind;
	task->agent = agent;
	snprintf(task->uid, sizeof(task->uid), "%s", uid);
	task->members = mem_new0_array(struct balancer_person, (spec ? spec->member_count : 0) + 1);
	if (!spec)
		return task;
	task->generation = want->meta.generation;
	if (network_need(agent, spec->network_uid, &network, &error) == PLAN_NEED_READY)
		task->routed = !network.nat && !network.isolated;
	memcpy(task->network_uid, spec->network_uid, sizeof(task->network_uid));
	memcpy(task->vip4, spec->vip4, sizeof(task->vip4));
	memcpy(task->vip6, spec->vip6, sizeof(task->vip6));
	task->algorithm = spec->algorithm;
	task->listens = mem_new0_array(struct balancer_listen, spec->listen_count + 1);
	memcpy(task->listens, spec->listens, spec->listen_count * sizeof(*task->listens));
	task->listen_count = spec->listen_count;
	return task;
}

void balancer_task_submit(struct balancer_task *task)
{
	pool_submit(task->agent->pool, work, finished, task);
}

void balancer_task_weights(const struct balancer_person *members, size_t count_all,
			   uint32_t *weights)
{
	AUTO(free)
	struct balance_share *shares = mem_new0_array(struct balance_share, count_all + 1);
	AUTO(free) uint32_t *found = mem_new0_array(uint32_t, count_all + 1);
	size_t served = 0;

	for (size_t i = 0; i < count_all; i++)
		if (!members[i].draining && balancer_health_serves(&members[i].health))
			shares[served++].connections = members[i].connections;
	balance_weights(shares, served, found);
	served = 0;
	for (size_t i = 0; i < count_all; i++)
		weights[i] = !members[i].draining && balancer_health_serves(&members[i].health)
				     ? found[served++]
				     : 0;
}
