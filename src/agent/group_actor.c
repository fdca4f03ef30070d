#include "agent/group_actor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>

#include "agent/agent_internal.h"
#include "agent/retry.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/strv.h"
#include "model/group.h"
#include "net/group.h"

enum { RETRY_FIRST_MS = 100, RETRY_FAILED_MS = 5000, RETRY_MAX_MS = 60000 };

struct group_actor {
	UT_hash_handle hh;
	struct agent *agent;
	char uid[UID_SIZE];
	struct security_group *want; /* NULL: nobody wants it */
	uint32_t session;            /* in which it was named last */
	uint64_t generation;         /* carried out */
	bool made;                   /* as `want` says */
	bool busy;                   /* a step is on a worker */
	bool removed;                /* nothing of it is left */
	char *error;
	struct retry retry;
	uint64_t told; /* hash of the last status */
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

static struct group_actor *find(struct agent *agent, const char *uid)
{
	struct group_actor *actor;

	HASH_FIND_STR(agent->group_actors, uid, actor);
	return actor;
}

static void on_retry(void *data)
{
	advance(data);
}

static struct group_actor *find_or_new(struct agent *agent, const char *uid)
{
	struct group_actor *actor = find(agent, uid);

	if (actor)
		return actor;
	actor = mem_new0(struct group_actor);
	actor->agent = agent;
	snprintf(actor->uid, sizeof(actor->uid), "%s", uid);
	actor->retry = (struct retry){ .fire = on_retry, .data = actor };
	HASH_ADD_STR(agent->group_actors, uid, actor);
	return actor;
}

static void actor_free(struct group_actor *actor)
{
	HASH_DEL(actor->agent->group_actors, actor);
	retry_stop(&actor->retry);
	security_group_free(actor->want);
	free(actor->error);
	free(actor);
}

static bool wanted(const struct group_actor *actor)
{
	return actor->want && !actor->want->meta.deleted_ms;
}

enum plan_need groups_need(struct agent *agent, char *const *uids, const char **ret_error)
{
	enum plan_need all = PLAN_NEED_READY;

	for (; uids && *uids; uids++) {
		const struct group_actor *actor = find(agent, *uids);

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
	struct security_group_status status = { .generation = actor->generation,
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
	uint64_t hash = agent_hash(json);
	if (hash == actor->told || !link_connected(actor->agent->link))
		return;
	actor->told = hash;
	link_send_status(actor->agent->link, "group", actor->uid, json);
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
		log_error("security group %s: %s", actor->uid, task->err.msg);
		if (wanted(actor))
			actor->generation = actor->want->meta.generation;
	}
	retry_later(&actor->retry, actor->agent->event, passing ? RETRY_FIRST_MS : RETRY_FAILED_MS,
		    RETRY_MAX_MS);
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
	agent_wake_instances(actor->agent);
	advance(actor);
}

static void submit(struct group_actor *actor, bool removal)
{
	struct task *task = mem_new0(struct task);

	task->actor = actor;
	task->net = actor->agent->net;
	task->remove = removal;
	memcpy(task->uid, actor->uid, sizeof(task->uid));
	if (!removal) {
		task->generation = actor->want->meta.generation;
		security_group_spec_copy(&task->spec, &actor->want->spec);
	}
	actor->busy = true;
	actor->made = actor->removed = false;
	pool_submit(actor->agent->pool, work, done, task);
}

static void advance(struct group_actor *actor)
{
	bool known = actor->want || actor->agent->complete;

	if (actor->busy || !known)
		return;
	if (!retry_waiting(&actor->retry) && !actor->removed) {
		if (wanted(actor) && !actor->made)
			submit(actor, false);
		else if (!wanted(actor))
			submit(actor, true);
	}
	if (actor->want && (actor->removed || (wanted(actor) && actor->made)))
		actor->generation = actor->want->meta.generation;
	tell(actor);
	if (actor->removed && !actor->busy)
		actor_free(actor);
}

void group_actor_assign(struct agent *agent, const json_t *resource)
{
	struct security_group *group = NULL;
	struct error err = {};

	if (security_group_decode(resource, &group, &err) < 0) {
		log_error("brumed assigned a security group that is not understood: %s", err.msg);
		return;
	}
	struct group_actor *actor = find_or_new(agent, group->meta.uid);
	bool same = actor->want && actor->want->meta.generation == group->meta.generation &&
		    !actor->want->meta.deleted_ms == !group->meta.deleted_ms;
	security_group_free(actor->want);
	actor->want = group;
	actor->session = agent->session;
	if (!same) {
		actor->made = false;
		mem_replace(&actor->error, NULL);
		retry_stop(&actor->retry);
	}
	advance(actor);
}

static void unwant(struct group_actor *actor)
{
	security_group_free(actor->want);
	actor->want = NULL;
	retry_stop(&actor->retry);
	advance(actor);
}

void group_actor_forget(struct agent *agent, const char *uid)
{
	struct group_actor *actor = find(agent, uid);

	if (actor)
		unwant(actor);
}

void group_actor_found(struct agent *agent, const char *uid)
{
	if (strlen(uid) < UID_SIZE)
		find_or_new(agent, uid);
}

void group_actors_complete(struct agent *agent)
{
	struct group_actor *actor, *next;

	HASH_ITER(hh, agent->group_actors, actor, next)
	if (actor->session != agent->session)
		unwant(actor);
}

void group_actors_tell(struct agent *agent)
{
	struct group_actor *actor, *next;

	HASH_ITER(hh, agent->group_actors, actor, next)
	actor->told = 0;
}

char **group_actors_list(struct agent *agent)
{
	struct group_actor *actor, *next;
	char **list = mem_new0(char *);

	HASH_ITER(hh, agent->group_actors, actor, next)
	strv_append(&list, actor->uid);
	return list;
}

void group_actors_free(struct agent *agent)
{
	struct group_actor *actor, *next;

	HASH_ITER(hh, agent->group_actors, actor, next)
	actor_free(actor);
}
