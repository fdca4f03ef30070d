#include "agent/group_actor.h"

#include <errno.h>
#include <string.h>

#include "agent/actors.h"
#include "agent/agent_internal.h"
#include "agent/retry.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "model/group.h"
#include "net/group.h"

enum { RETRY_FIRST_MS = 100, RETRY_FAILED_MS = 5000, RETRY_MAX_MS = 60000 };

struct group_actor {
	struct actor base;
	struct security_group *want; /* NULL: nobody wants it */
	bool made;                   /* as `want` says */
	bool busy;                   /* a step is on a worker */
	bool removed;                /* nothing of it is left */
	char *error;
	struct retry retry;
};

/* One step, on a worker; nothing in here belongs to the loop. */
struct task {
	struct group_actor *actor;
	struct net *net;
	char uid[UID_SIZE];
	uint64_t generation;
	struct security_group_spec spec;
	bool remove;
	int result;
	struct error err;
};

static void advance(struct group_actor *actor);

static void on_retry(void *data)
{
	advance(data);
}

static void init(struct actor *base)
{
	struct group_actor *actor = (struct group_actor *) base;

	actor->retry = (struct retry){ .fire = on_retry, .data = actor };
}

static void release(struct actor *base)
{
	struct group_actor *actor = (struct group_actor *) base;

	retry_stop(&actor->retry);
	security_group_free(actor->want);
	free(actor->error);
}

static bool wanted(const struct group_actor *actor)
{
	return actor->want && !actor->want->meta.deleted_ms;
}

enum plan_need groups_need(struct agent *agent, char *const *uids, const char **ret_error)
{
	enum plan_need all = PLAN_NEED_READY;

	for (; uids && *uids; uids++) {
		const struct group_actor *actor = actors_find(agent, ACTOR_GROUP, *uids);

		/* The rules of before still hold while new ones are being written. */
		if (!actor || !wanted(actor) || (!actor->made && !actor->error)) {
			all = all == PLAN_NEED_FAILED ? all : PLAN_NEED_WAIT;
		} else if (!actor->made) {
			*ret_error = actor->error;
			all = PLAN_NEED_FAILED;
		}
	}
	return all;
}

static void tell(struct group_actor *actor)
{
	struct security_group_status status = { .generation = actor->base.generation,
						.error = actor->error };

	if (!actor->want)
		return;
	if (actor->removed)
		status.state = SECURITY_GROUP_GONE;
	else if (actor->error)
		status.state = SECURITY_GROUP_FAILED;
	else
		status.state = actor->made && wanted(actor) ? SECURITY_GROUP_READY
							    : SECURITY_GROUP_PENDING;
	AUTO(json_decref) json_t *json = security_group_status_encode(&status);
	actors_tell_status(&actor->base, json);
}

/* As net/ takes it; the texts are the spec's.  The caller frees. */
static struct group_rule *rules_for_net(const struct security_rules *rules)
{
	struct group_rule *list = mem_new0_array(struct group_rule, rules->count + 1);

	for (size_t i = 0; i < rules->count; i++) {
		const struct security_rule *rule = &rules->list[i];

		list[i] = (struct group_rule){ .protocol = security_protocol_names[rule->protocol],
					       .port = rule->port,
					       .last_port = rule->last_port,
					       .cidr = rule->cidr,
					       .group = rule->group_uid };
	}
	return list;
}

static void work(void *data)
{
	struct task *task = data;

	if (task->remove) {
		task->result = group_remove(task->net, task->uid, &task->err);
		return;
	}
	AUTO(free) struct group_rule *ingress = rules_for_net(&task->spec.ingress);
	AUTO(free) struct group_rule *egress = rules_for_net(&task->spec.egress);
	struct group_spec spec = { .uid = task->uid,
				   .ingress = ingress,
				   .egress = egress,
				   .ingress_count = task->spec.ingress.count,
				   .egress_count = task->spec.egress.count,
				   .egress_all = !task->spec.egress_limited };
	task->result = group_ensure(task->net, &spec, &task->err);
}

static void failed(struct group_actor *actor, const struct task *task)
{
	/* A port that is on its way out of it will be gone in a moment. */
	bool passing = task->remove && task->result == -EBUSY;

	if (!passing) {
		mem_replace(&actor->error, task->err.msg);
		log_error("security group %s: %s", actor->base.uid, task->err.msg);
		if (wanted(actor))
			actor->base.generation = actor->want->meta.generation;
	}
	retry_later(&actor->retry, actor->base.agent->event,
		    passing ? RETRY_FIRST_MS : RETRY_FAILED_MS, RETRY_MAX_MS);
}

static void done(void *data)
{
	struct task *task = data;
	struct group_actor *actor = task->actor;

	actor->busy = false;
	if (task->result < 0) {
		failed(actor, task);
	} else if (task->remove) {
		actor->removed = !wanted(actor);
	} else {
		retry_stop(&actor->retry);
		mem_replace(&actor->error, NULL);
		/* What was wanted meanwhile is written next. */
		actor->made = wanted(actor) && actor->want->meta.generation == task->generation;
	}
	security_group_spec_done(&task->spec);
	free(task);
	agent_wake_instances(actor->base.agent);
	advance(actor);
}

static void submit(struct group_actor *actor, bool removal)
{
	struct task *task = mem_new0(struct task);

	task->actor = actor;
	task->net = actor->base.agent->net;
	task->remove = removal;
	memcpy(task->uid, actor->base.uid, sizeof(task->uid));
	if (!removal) {
		task->generation = actor->want->meta.generation;
		security_group_spec_copy(&task->spec, &actor->want->spec);
	}
	actor->busy = true;
	actor->made = actor->removed = false;
	pool_submit(actor->base.agent->pool, work, done, task);
}

static void advance(struct group_actor *actor)
{
	bool known = actor->want || actor->base.agent->complete;

	if (actor->busy || !known)
		return;
	if (!retry_waiting(&actor->retry) && !actor->removed) {
		if (wanted(actor) && !actor->made)
			submit(actor, false);
		else if (!wanted(actor))
			submit(actor, true);
	}
	if (actor->want && (actor->removed || (wanted(actor) && actor->made)))
		actor->base.generation = actor->want->meta.generation;
	tell(actor);
	if (actor->removed && !actor->busy)
		actors_remove(&actor->base);
}

static void assign(struct agent *agent, const json_t *resource)
{
	struct security_group *group = NULL;
	struct error err = {};

	if (security_group_decode(resource, &group, &err) < 0) {
		log_error("brumed assigned a security group that is not understood: %s", err.msg);
		return;
	}
	struct group_actor *actor = actors_need(agent, ACTOR_GROUP, group->meta.uid);
	bool same = actors_same_wish(actor->want ? &actor->want->meta : NULL, &group->meta);
	security_group_free(actor->want);
	actor->want = group;
	actor->base.session = agent->session;
	if (!same) {
		actor->made = false;
		mem_replace(&actor->error, NULL);
		retry_stop(&actor->retry);
	}
	advance(actor);
}

static void unwant(struct actor *base)
{
	struct group_actor *actor = (struct group_actor *) base;

	security_group_free(actor->want);
	actor->want = NULL;
	retry_stop(&actor->retry);
	advance(actor);
}

const struct actor_ops group_actor_ops = { .kind = "group",
					   .size = sizeof(struct group_actor),
					   .init = init,
					   .assign = assign,
					   .unwant = unwant,
					   .done = release };
