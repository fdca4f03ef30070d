#include "agent/balancer_actor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/actors.h"
#include "agent/agent_internal.h"
#include "agent/balancer_check.h"
#include "agent/balancer_round.h"
#include "agent/balancer_task.h"
#include "agent/network_actor.h"
#include "agent/retry.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strv.h"

enum {
	RETRY_FIRST_MS = 1000,
	RETRY_MAX_MS = 60000,
	COUNT_MS = 2000,        /* from one count of connections to the next */
	TELL_COUNTS_MS = 5000,  /* people hear of numbers that often at most */
	CHECK_AGAIN_MS = 200,   /* when a round could not begin */
	CHECK_TOGETHER_MS = 50, /* what is due then is checked now */
};

struct balancer_actor {
	struct actor base;
	struct balancer *want; /* NULL: nobody wants it */
	bool looked;           /* the kernel was asked who is in force */
	char **in_force;       /* addresses; at the start of the agent */
	bool made;             /* there are rules, maybe older ones */
	bool changed;          /* the rules are not what they should be */
	bool count_due;
	bool busy; /* a step is on a worker */
	bool removed;
	char *error;
	struct balancer_person *members; /* as in want->spec.members */
	size_t member_count;
	struct balancer_person *gone; /* who got connections and does not any more */
	size_t gone_count;
	struct balancer_round *round;
	char **round_uids; /* who is checked in it */
	struct retry retry, check_timer, count_timer;
	uint64_t told_counts, told_us; /* hash of the last status with counts, and when */
};

static void advance(struct balancer_actor *actor);

static void on_retry(void *data)
{
	advance(data);
}

static void on_count_timer(void *data)
{
	struct balancer_actor *actor = data;

	actor->count_due = true;
	advance(actor);
}

static void init(struct actor *base)
{
	struct balancer_actor *actor = (struct balancer_actor *) base;

	actor->retry = (struct retry){ .fire = on_retry, .data = actor };
	actor->check_timer = actor->retry;
	actor->count_timer = (struct retry){ .fire = on_count_timer, .data = actor };
}

static void stop_checks(struct balancer_actor *actor)
{
	balancer_round_cancel(actor->round);
	actor->round = NULL;
	strv_free(actor->round_uids);
	actor->round_uids = NULL;
	retry_stop(&actor->check_timer);
	retry_stop(&actor->count_timer);
}

static void release(struct actor *base)
{
	struct balancer_actor *actor = (struct balancer_actor *) base;

	stop_checks(actor);
	retry_stop(&actor->retry);
	balancer_free(actor->want);
	strv_free(actor->in_force);
	free(actor->members);
	free(actor->gone);
	free(actor->error);
}

static bool wanted(const struct balancer_actor *actor)
{
	return actor->want && !actor->want->meta.deleted_ms;
}

static uint64_t now_us(void)
{
	return clock_monotonic_us(clock_system());
}

static struct balancer_person *find_member(const struct balancer_actor *actor, const char *uid)
{
	for (size_t i = 0; i < actor->member_count; i++)
		if (strcmp(actor->members[i].uid, uid) == 0)
			return &actor->members[i];
	return NULL;
}

static bool serves(const struct balancer_person *member)
{
	return !member->draining && balancer_health_serves(&member->health);
}

/* Its flows of UDP are to be forgotten. */
static void add_gone(struct balancer_actor *actor, const struct balancer_person *member)
{
	actor->gone = mem_realloc(actor->gone, actor->gone_count + 1, sizeof(*actor->gone));
	actor->gone[actor->gone_count++] = *member;
}

/* ---- what people hear ---- */

static bool is_in_force(const struct balancer_actor *actor, const struct balancer_person *member)
{
	return (member->ipv4[0] && strv_contains(actor->in_force, member->ipv4)) ||
	       (member->ipv6[0] && strv_contains(actor->in_force, member->ipv6));
}

/* Why nobody takes connections; NULL: somebody does. */
static char *why_down(const struct balancer_actor *actor)
{
	const struct balancer_person *first = NULL;
	size_t draining = 0, starting = 0;

	for (size_t i = 0; i < actor->member_count; i++) {
		const struct balancer_person *member = &actor->members[i];

		if (serves(member))
			return NULL;
		draining += member->draining;
		starting += member->health.state == HEALTH_STARTING;
		if (!first && !member->draining && member->why[0])
			first = member;
	}
	if (actor->member_count == 0)
		return mem_strdup("no running instance on its network has the labels");
	if (draining == actor->member_count)
		return mem_printf("all %zu members are drained", actor->member_count);
	if (first)
		return mem_printf("no member passes its check; %s: %s", first->instance,
				  first->why);
	return starting > 0 ? mem_strdup("no member was checked yet")
			    : mem_strdup("no member passes its check");
}

static void describe_members(const struct balancer_actor *actor, struct balancer_status *status,
			     bool counts)
{
	AUTO(free) uint32_t *weights = mem_new0_array(uint32_t, actor->member_count + 1);

	if (counts)
		balancer_task_weights(actor->members, actor->member_count, weights);
	status->members = mem_new0_array(struct balancer_member_status, actor->member_count + 1);
	status->member_count = actor->member_count;
	for (size_t i = 0; i < actor->member_count; i++) {
		const struct balancer_person *member = &actor->members[i];
		struct balancer_member_status *shown = &status->members[i];

		snprintf(shown->instance, sizeof(shown->instance), "%s", member->instance);
		snprintf(shown->address, sizeof(shown->address), "%s",
			 member->ipv4[0] ? member->ipv4 : member->ipv6);
		snprintf(shown->why, sizeof(shown->why), "%s", member->why);
		shown->health = member->health.state;
		shown->draining = member->draining;
		shown->drained = member->drained;
		shown->connections = counts ? member->connections : 0;
		if (actor->want->spec.algorithm == BALANCER_LEAST_CONNECTIONS)
			shown->weight = weights[i];
	}
}

static json_t *describe(const struct balancer_actor *actor, bool counts)
{
	struct balancer_status status = { .generation = actor->base.generation };
	AUTO(free) char *down = NULL;
	json_t *json;

	if (actor->removed) {
		status.state = BALANCER_GONE;
	} else if (actor->error) {
		status.state = BALANCER_FAILED;
		status.error = mem_strdup(actor->error);
	} else if (actor->made && wanted(actor)) {
		down = why_down(actor);
		status.state = down ? BALANCER_DOWN : BALANCER_READY;
		status.error = TAKE_PTR(down);
	}
	if (wanted(actor))
		describe_members(actor, &status, counts);
	json = balancer_status_encode(&status);
	balancer_status_done(&status);
	return json;
}

/* Numbers alone are no news: they go along, or at their own pace. */
static void tell(struct balancer_actor *actor)
{
	uint64_t hash, hash_counts, now = now_us();

	if (!actor->want || !link_connected(actor->base.agent->link))
		return;
	AUTO(json_decref) json_t *plain = describe(actor, false);
	AUTO(json_decref) json_t *whole = describe(actor, true);
	hash = agent_hash(plain);
	hash_counts = agent_hash(whole);
	if (hash == actor->base.told &&
	    (hash_counts == actor->told_counts || now - actor->told_us < TELL_COUNTS_MS * 1000ULL))
		return;
	actor->base.told = hash;
	actor->told_counts = hash_counts;
	actor->told_us = now;
	link_send_status(actor->base.agent->link, "balancer", actor->base.uid, whole);
}

/* ---- checks ---- */

static void take_letter(struct balancer_actor *actor, const char *uid, char letter)
{
	const struct balancer_spec *spec = &actor->want->spec;
	struct balancer_person *member = find_member(actor, uid);
	struct balancer_person before;

	if (!member)
		return;
	before = *member;
	if (letter == '+')
		member->why[0] = '\0';
	else
		snprintf(member->why, sizeof(member->why), "port %u: %s", balancer_check_port(spec),
			 balancer_round_words(letter));
	if (!balancer_health_next(&member->health, &spec->check, letter == '+'))
		return;
	log_info("balancer %s: %s is %s%s%s", actor->want->meta.name, member->instance,
		 health_state_names[member->health.state], member->why[0] ? ": " : "", member->why);
	if (serves(&before) && !serves(member))
		add_gone(actor, member);
	actor->changed = true;
}

static void round_done(void *data, const char *letters)
{
	struct balancer_actor *actor = data;
	AUTO(strv_free) char **uids = TAKE_PTR(actor->round_uids);
	uint64_t now = now_us();

	actor->round = NULL;
	for (size_t i = 0; wanted(actor) && uids && uids[i]; i++) {
		struct balancer_person *member;

		if (letters)
			take_letter(actor, uids[i], letters[i]);
		member = find_member(actor, uids[i]);
		if (member)
			member->due_us =
				now + 1000ULL * (letters ? balancer_health_delay_ms(
								   &member->health,
								   &actor->want->spec.check)
							 : CHECK_AGAIN_MS);
	}
	advance(actor);
}

static void begin_round(struct balancer_actor *actor, char *const *addresses)
{
	const struct balancer_spec *spec = &actor->want->spec;
	struct error err = {};
	int r = balancer_round_start(actor->base.agent, &spec->check, balancer_check_port(spec),
				     addresses, round_done, actor, &actor->round, &err);

	if (r == 0)
		return;
	strv_free(actor->round_uids);
	actor->round_uids = NULL;
	if (r != -EAGAIN)
		log_error("balancer %s: %s", actor->base.uid, err.msg);
	retry_in(&actor->check_timer, actor->base.agent->event, CHECK_AGAIN_MS);
}

/* Begins the checks that are due, or waits for the next. */
static void check_members(struct balancer_actor *actor)
{
	AUTO(strv_free) char **addresses = NULL;
	uint64_t now = now_us(), next = UINT64_MAX;
	size_t count = 0;

	if (actor->round || actor->want->spec.check.type == BALANCER_CHECK_NONE)
		return;
	for (size_t i = 0; i < actor->member_count && count < BALANCER_ROUND_MAX; i++) {
		const struct balancer_person *member = &actor->members[i];

		if (member->due_us > now + CHECK_TOGETHER_MS * 1000ULL) {
			next = member->due_us < next ? member->due_us : next;
			continue;
		}
		strv_append(&addresses, member->ipv4[0] ? member->ipv4 : member->ipv6);
		strv_append(&actor->round_uids, member->uid);
		count++;
	}
	if (count > 0)
		begin_round(actor, addresses);
	else if (next != UINT64_MAX)
		retry_in(&actor->check_timer, actor->base.agent->event, (next - now) / 1000 + 1);
}

/* ---- connections ---- */

static bool needs_counts(const struct balancer_actor *actor)
{
	if (actor->want->spec.algorithm == BALANCER_LEAST_CONNECTIONS && actor->member_count > 1)
		return true;
	for (size_t i = 0; i < actor->member_count; i++)
		if (actor->members[i].draining && !actor->members[i].drained)
			return true;
	return false;
}

static void take_counts(struct balancer_actor *actor, const struct balancer_task *task)
{
	bool weighted = actor->want->spec.algorithm == BALANCER_LEAST_CONNECTIONS;

	for (size_t i = 0; i < task->member_count; i++) {
		struct balancer_person *member = find_member(actor, task->members[i].uid);

		if (!member)
			continue;
		actor->changed |= weighted && member->connections != task->members[i].connections;
		member->connections = task->members[i].connections;
		if (member->draining && member->connections == 0)
			member->drained = true;
	}
}

/* Those whose time is up are drained, whatever they still have. */
static void end_drains(struct balancer_actor *actor)
{
	int64_t now_ms = clock_realtime_ms(clock_system());

	for (size_t i = 0; i < actor->member_count; i++) {
		struct balancer_person *member = &actor->members[i];

		if (!member->draining || member->drained ||
		    now_ms < member->drain_since_ms + (int64_t) actor->want->spec.drain_s * 1000)
			continue;
		member->drained = true;
		add_gone(actor, member);
		actor->changed = true;
	}
}

/* ---- steps ---- */

static void done(struct balancer_task *task);

static void submit(struct balancer_actor *actor, enum balancer_task_kind kind)
{
	struct balancer_task *task =
		balancer_task_new(actor->base.agent, kind, actor->base.uid, actor->want);
	bool all = kind == BALANCER_TASK_COUNT, some = kind == BALANCER_TASK_ENSURE;

	task->done = done;
	task->data = actor;
	for (size_t i = 0; (all || some) && i < actor->member_count; i++)
		if (all || serves(&actor->members[i]))
			task->members[task->member_count++] = actor->members[i];
	if (kind == BALANCER_TASK_ENSURE) {
		task->gone = TAKE_PTR(actor->gone);
		task->gone_count = actor->gone_count;
		actor->gone_count = 0;
		actor->changed = false;
	}
	actor->busy = true;
	balancer_task_submit(task);
}

static void take_look(struct balancer_actor *actor, struct balancer_task *task)
{
	actor->looked = true;
	actor->in_force = TAKE_PTR(task->in_force);
	actor->made = actor->in_force != NULL;
	for (size_t i = 0; wanted(actor) && i < actor->member_count; i++)
		balancer_health_init(&actor->members[i].health, &actor->want->spec.check,
				     is_in_force(actor, &actor->members[i]));
	strv_free(actor->in_force);
	actor->in_force = NULL;
}

static void failed(struct balancer_actor *actor, const struct balancer_task *task)
{
	log_error("balancer %s: %s", actor->base.uid, task->err.msg);
	if (task->kind == BALANCER_TASK_COUNT)
		return; /* the next count comes */
	mem_replace(&actor->error, task->err.msg);
	if (task->kind == BALANCER_TASK_ENSURE)
		actor->changed = true;
	actor->base.generation = task->generation;
	retry_later(&actor->retry, actor->base.agent->event, RETRY_FIRST_MS, RETRY_MAX_MS);
}

static void done(struct balancer_task *task)
{
	struct balancer_actor *actor = task->data;

	actor->busy = false;
	if (task->result < 0) {
		failed(actor, task);
	} else if (task->kind == BALANCER_TASK_LOOK) {
		take_look(actor, task);
	} else if (task->kind == BALANCER_TASK_REMOVE) {
		actor->removed = true;
	} else if (task->kind == BALANCER_TASK_COUNT) {
		if (wanted(actor))
			take_counts(actor, task);
	} else {
		actor->made = true;
		actor->base.generation = task->generation;
		mem_replace(&actor->error, NULL);
		retry_stop(&actor->retry);
	}
	advance(actor);
}

static void remove_it(struct balancer_actor *actor)
{
	stop_checks(actor);
	if (!actor->removed) {
		if (!retry_waiting(&actor->retry))
			submit(actor, BALANCER_TASK_REMOVE);
		return;
	}
	if (actor->want)
		actor->base.generation = actor->want->meta.generation;
	tell(actor);
	actors_remove(&actor->base);
}

/* The network that its members are on; false: it has to wait for it. */
static bool has_network(struct balancer_actor *actor)
{
	const struct balancer_spec *spec = &actor->want->spec;
	const char *error = NULL;
	enum plan_need need = network_need(actor->base.agent, spec->network_uid, NULL, &error);

	if (need == PLAN_NEED_FAILED && !actor->made) {
		AUTO(free)
		char *text =
			mem_printf("network %s: %s", spec->network, error ? error : "has failed");

		mem_replace(&actor->error, text);
		actor->base.generation = actor->want->meta.generation;
	}
	return need == PLAN_NEED_READY;
}

static void advance_wanted(struct balancer_actor *actor)
{
	actor->removed = false;
	if (!actor->looked) {
		if (!retry_waiting(&actor->retry))
			submit(actor, BALANCER_TASK_LOOK);
		return;
	}
	if (!has_network(actor)) {
		tell(actor);
		return;
	}
	end_drains(actor);
	check_members(actor);
	if (needs_counts(actor) && !actor->count_due && !retry_waiting(&actor->count_timer))
		retry_in(&actor->count_timer, actor->base.agent->event, COUNT_MS);
	if (actor->changed && !retry_waiting(&actor->retry)) {
		/* People hear of it when it is in force: that it is ready, say. */
		submit(actor, BALANCER_TASK_ENSURE);
		return;
	}
	if (actor->count_due) {
		actor->count_due = false;
		if (needs_counts(actor))
			submit(actor, BALANCER_TASK_COUNT);
	}
	tell(actor);
}

static void advance(struct balancer_actor *actor)
{
	bool known = actor->want || actor->base.agent->complete;

	if (actor->busy || !known)
		return;
	if (wanted(actor))
		advance_wanted(actor);
	else
		remove_it(actor);
}

/* ---- what is wanted ---- */

static void fill_member(const struct balancer_member *from, const struct balancer_spec *spec,
			struct balancer_person *to)
{
	const struct balancer_drain *drain = balancer_drain_find(spec, from->uid);

	memcpy(to->uid, from->uid, sizeof(to->uid));
	memcpy(to->instance, from->instance, sizeof(to->instance));
	memcpy(to->ipv4, from->ipv4, sizeof(to->ipv4));
	memcpy(to->ipv6, from->ipv6, sizeof(to->ipv6));
	to->draining = drain != NULL;
	to->drained = to->drained && drain;
	to->drain_since_ms = drain ? drain->since_ms : 0;
}

static bool same_addresses(const struct balancer_person *a, const struct balancer_member *b)
{
	return strcmp(a->ipv4, b->ipv4) == 0 && strcmp(a->ipv6, b->ipv6) == 0;
}

/* Members that stay keep what is known of them. */
static void take_members(struct balancer_actor *actor, const struct balancer_spec *old_spec)
{
	const struct balancer_spec *spec = &actor->want->spec;
	AUTO(free) struct balancer_person *old = TAKE_PTR(actor->members);
	size_t old_count = actor->member_count, k = 0;
	bool same_check = old_spec && old_spec->check.type == spec->check.type &&
			  balancer_check_port(old_spec) == balancer_check_port(spec);

	actor->members = mem_new0_array(struct balancer_person, spec->member_count + 1);
	actor->member_count = spec->member_count;
	/* Both are sorted by uid. */
	for (size_t i = 0; i < spec->member_count; i++) {
		struct balancer_person *member = &actor->members[i];

		while (k < old_count && strcmp(old[k].uid, spec->members[i].uid) < 0)
			add_gone(actor, &old[k++]);
		if (k < old_count && strcmp(old[k].uid, spec->members[i].uid) == 0 &&
		    same_addresses(&old[k], &spec->members[i])) {
			*member = old[k++];
			if (!same_check)
				balancer_health_change(&member->health, &spec->check);
		} else {
			balancer_health_init(&member->health, &spec->check, false);
		}
		fill_member(&spec->members[i], spec, member);
	}
	while (k < old_count)
		add_gone(actor, &old[k++]);
}

static void assign(struct agent *agent, const json_t *resource)
{
	struct balancer *balancer = NULL;
	struct balancer_actor *actor;
	struct error err = {};

	if (balancer_decode(resource, &balancer, &err) < 0) {
		log_error("brumed assigned a balancer that is not understood: %s", err.msg);
		return;
	}
	actor = actors_need(agent, ACTOR_BALANCER, balancer->meta.uid);
	AUTO(balancer_free) struct balancer *old = actor->want;
	bool same = actors_same_wish(old ? &old->meta : NULL, &balancer->meta);
	actor->want = balancer;
	actor->base.session = agent->session;
	if (!same) {
		take_members(actor, old ? &old->spec : NULL);
		actor->changed = true;
		mem_replace(&actor->error, NULL);
		retry_stop(&actor->retry);
	}
	advance(actor);
}

static void unwant(struct actor *base)
{
	struct balancer_actor *actor = (struct balancer_actor *) base;

	balancer_free(actor->want);
	actor->want = NULL;
	retry_stop(&actor->retry);
	advance(actor);
}

void balancer_actors_wake(struct agent *agent, const char *network_uid)
{
	struct balancer_actor *actor, *next;

	ACTORS_EACH(agent, ACTOR_BALANCER, actor, next)
	{
		if (!wanted(actor) || strcmp(actor->want->spec.network_uid, network_uid) != 0)
			continue;
		if (!actor->made)
			mem_replace(&actor->error, NULL);
		/* Its bridge may be a new one, without the balancer's address. */
		actor->changed |= actor->want->spec.vip;
		advance(actor);
	}
}

const struct actor_ops balancer_actor_ops = { .kind = "balancer",
					      .size = sizeof(struct balancer_actor),
					      .init = init,
					      .assign = assign,
					      .unwant = unwant,
					      .done = release };
