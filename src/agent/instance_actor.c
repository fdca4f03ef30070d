#include "agent/instance_actor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/instance_actor_internal.h"
#include "agent/instance_cards.h"
#include "agent/instance_files.h"
#include "agent/instance_machine.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strv.h"
#include "image/rootfs.h"
#include "model/member.h"

void actor_want_unref(struct want *want)
{
	if (!want || --want->refs > 0)
		return;
	instance_free(want->instance);
	free(want);
}

struct instance_actor *actor_find(struct agent *agent, const char *uid)
{
	struct instance_actor *actor;

	HASH_FIND_STR(agent->instances, uid, actor);
	return actor;
}

static void on_again(void *data)
{
	actor_advance(data);
}

/* The grace period is over, or the delay before a restart, or brume-oci create hangs. */
static void on_timer(void *data)
{
	struct instance_actor *actor = data;

	if (actor->seen.run == PLAN_RUN_NONE)
		actor->seen.delay_over = true;
	else
		actor->seen.stop_expired = true;
	actor_advance(actor);
}

/* Without a record (a machine that lost power) the files still say whose they are. */
static bool slot_of_upper(const struct instance_actor *actor, uint32_t *ret)
{
	AUTO(free) char *path = agent_state_path(actor->agent, actor->uid, "upper");
	struct stat st;

	if (stat(path, &st) < 0 || st.st_uid < (uid_t) SLOT_UID_BASE ||
	    st.st_uid >= (uid_t) LAYER_UID_BASE)
		return false;
	*ret = (st.st_uid - (uint32_t) SLOT_UID_BASE) / (uint32_t) LAYER_UID_COUNT;
	return true;
}

/* What the last run, or the one before a crash, left on record. */
static void load_record(struct instance_actor *actor)
{
	AUTO(free) char *path = agent_state_path(actor->agent, actor->uid, "node.json");
	AUTO(free) char *image = agent_state_path(actor->agent, actor->uid, "image.json");
	AUTO(free) char *state = agent_state_path(actor->agent, actor->uid, NULL);
	AUTO(free) char *run = agent_run_path(actor->agent, actor->uid, NULL);
	struct error err = {};
	int r = record_load(path, &actor->record, &err);

	if (r < 0)
		record_init(&actor->record);
	if (r < 0 && r != -ENOENT)
		log_error("instance %s: %s, going on without it", actor->uid, err.msg);
	if (r == 0 || slot_of_upper(actor, &actor->record.slot)) {
		actor->has_slot = true;
		agent_slot_mark(actor->agent, actor->record.slot);
	}
	actor->has_image = access(image, F_OK) == 0;
	actor->seen.leftovers = access(state, F_OK) == 0 || access(run, F_OK) == 0;
	actor->seen.start_seq = actor->record.start_seq;
	actor->seen.failed = actor->record.failed;
	actor->seen.exited = actor->record.exited;
	actor->seen.sick = actor->record.sick;
	actor->seen.exit_code = actor->record.exit_code;
	actor->seen.restarts = actor->record.restarts;
}

struct instance_actor *actor_find_or_new(struct agent *agent, const char *uid)
{
	struct instance_actor *actor = actor_find(agent, uid);

	if (actor)
		return actor;
	actor = mem_new0(struct instance_actor);
	actor->agent = agent;
	actor->rootfs_fd = -1;
	snprintf(actor->uid, sizeof(actor->uid), "%s", uid);
	actor->timer = (struct retry){ .fire = on_timer, .data = actor };
	actor->again = (struct retry){ .fire = on_again, .data = actor };
	load_record(actor);
	HASH_ADD_STR(agent->instances, uid, actor);
	return actor;
}

static void actor_free(struct instance_actor *actor)
{
	HASH_DEL(actor->agent->instances, actor);
	if (actor->has_slot)
		agent_slot_release(actor->agent, actor->record.slot);
	retry_stop(&actor->timer);
	retry_stop(&actor->again);
	actor_want_unref(actor->want);
	instance_health_free(actor->health);
	instance_telling_free(actor->telling);
	instance_machine_free(actor->machine);
	run_close_fds(actor);
	record_done(&actor->record);
	free(actor->update_error);
	free(actor->ports_error);
	free(actor);
}

struct plan_want actor_want(const struct instance_actor *actor)
{
	struct plan_want want = {};

	if (!actor->want)
		return want;
	const struct instance *instance = actor->want->instance;
	want.wanted = instance->meta.deleted_ms == 0;
	want.graceful = true;
	want.target = instance->spec.target;
	want.start_seq = instance->spec.start_seq;
	want.policy = instance->spec.restart_policy;
	want.max_retries = instance->spec.restart_max_retries;
	return want;
}

const struct instance_spec *actor_spec(const struct instance_actor *actor)
{
	return &actor->want->instance->spec;
}

static bool is_running(const struct instance_actor *actor)
{
	return actor->seen.run == PLAN_RUN_RUNNING || actor->seen.run == PLAN_RUN_PAUSED;
}

/* Brings what others do into `seen`; says why when one of them has failed. */
static const char *look_around(struct instance_actor *actor, char image_uid[UID_SIZE],
			       struct instance_networks *networks)
{
	const char *image_error = NULL, *network_error = NULL;
	struct plan_seen *seen = &actor->seen;
	char way[INSTANCE_WAY_SIZE];

	seen->keeper = agent_keeper(actor->agent) != NULL;
	seen->image = seen->network = PLAN_NEED_WAIT;
	if (!actor->want)
		return NULL;
	struct instance_limits limits = instance_limits_of(actor_spec(actor));
	seen->limited = actor->limits_known && instance_limits_equal(&actor->limits, &limits);
	seen->limits_refused =
		actor->update_error && instance_limits_equal(&actor->refused, &limits);
	seen->image =
		actor->has_image
			? PLAN_NEED_READY
			: image_need(actor->agent, actor->want->instance->meta.project,
				     actor_spec(actor)->image_name ? actor_spec(actor)->image_name
								   : "",
				     image_uid, &image_error);
	seen->network = instance_networks_look(actor->agent, actor_spec(actor), is_running(actor),
					       networks, &network_error);
	instance_networks_describe(actor_spec(actor), networks, way);
	if (seen->network == PLAN_NEED_READY && strcmp(way, actor->way) != 0)
		seen->attached = false;
	return image_error ? image_error : network_error;
}

/* True when the step was carried out here and the next one can be looked for. */
static bool carry_out(struct instance_actor *actor, enum plan_step step, const char *why,
		      const char *image_uid, const struct instance_networks *networks)
{
	struct keeper_client *keeper = agent_keeper(actor->agent);

	switch (step) {
	case PLAN_NONE:
		return false;
	case PLAN_SPAWN:
		return run_spawn(actor, keeper);
	case PLAN_SIGNAL:
		run_signal(actor, keeper);
		return true;
	case PLAN_KILL:
		if (!actor->kill_sent)
			run_kill(actor, keeper);
		return false;
	case PLAN_SETTLE:
		run_settle(actor, NULL);
		return true;
	case PLAN_GIVE_UP:
		why = why ? why : "what it needs has failed";
		if (actor->seen.run == PLAN_RUN_NONE)
			run_settle(actor, why);
		else
			run_doom(actor, why);
		return true;
	case PLAN_PREPARE:
	case PLAN_REMOVE:
		/* Two mounts of the same changed files would not know of each other. */
		if (files_stop(actor->agent, actor->uid,
			       step == PLAN_REMOVE ? "the instance is being deleted"
						   : "the instance is being started"))
			return false;
		/* fall through */
	default:
		actor_submit(actor, step, image_uid, networks);
		return false;
	}
}

static void plan_restart(struct instance_actor *actor, const struct plan_want *want)
{
	struct plan_seen *seen = &actor->seen;
	uint32_t delay_ms = plan_restart_delay_ms(seen->restarts);

	if (actor->task || seen->run != PLAN_RUN_NONE || seen->delay_over ||
	    want->start_seq > seen->start_seq || !plan_restarts(want, seen) ||
	    retry_waiting(&actor->timer))
		return;
	log_info("instance %s: ended with %lld, starting it again in %u ms", actor->uid,
		 (long long) seen->exit_code, delay_ms);
	retry_in(&actor->timer, actor->agent->event, delay_ms);
}

void actor_advance(struct instance_actor *actor)
{
	struct plan_want want = actor_want(actor);
	char image_uid[UID_SIZE] = "";
	struct instance_networks networks = {};
	enum plan_step step;

	/* Nobody has said yet whether it is wanted. */
	if (!actor->want && !actor->agent->complete)
		return;
	instance_machine_update(actor);
	instance_health_update(actor);
	do {
		const char *why = look_around(actor, image_uid, &networks);

		if (actor->task || retry_waiting(&actor->again))
			break;
		step = plan_next(&want, &actor->seen);
		if (step != PLAN_NONE)
			log_debug("instance %s: %s", actor->uid, plan_step_name(step));
		if (!carry_out(actor, step, why, image_uid, &networks))
			break;
	} while (true);
	plan_restart(actor, &want);
	instance_machine_update(actor);
	instance_health_update(actor);
	actor_tell(actor);
	if (!want.wanted && !actor->task && actor->seen.keeper && !actor->seen.leftovers &&
	    actor->seen.run == PLAN_RUN_NONE)
		actor_free(actor);
}

/* -- what comes from outside ------------------------------------------------------------------ */

void instance_actor_assign(struct agent *agent, const json_t *resource)
{
	struct instance *instance = NULL;
	struct error err = {};

	if (instance_decode(resource, &instance, &err) < 0) {
		log_error("brumed assigned an instance that is not understood: %s", err.msg);
		return;
	}
	struct instance_actor *actor = actor_find_or_new(agent, instance->meta.uid);
	if (actor->want && (strcmp(actor->want->instance->meta.name, instance->meta.name) != 0 ||
			    !instance_ports_same(actor_spec(actor), &instance->spec)))
		actor->seen.attached = false;
	actor_want_unref(actor->want);
	actor->want = mem_new0(struct want);
	actor->want->refs = 1;
	actor->want->instance = instance;
	actor->session = agent->session;
	retry_stop(&actor->again);
	/* A shorter grace period than the one that runs: `stop` and then `delete --force`. */
	if (actor->seen.stop_sent && instance_stop_timeout_s(&instance->spec) == 0)
		actor->seen.stop_expired = true;
	actor_advance(actor);
}

static void unwant(struct instance_actor *actor)
{
	actor_want_unref(actor->want);
	actor->want = NULL;
	retry_stop(&actor->again);
	actor_advance(actor);
}

void instance_actor_forget(struct agent *agent, const char *uid)
{
	struct instance_actor *actor = actor_find(agent, uid);

	if (actor)
		unwant(actor);
}

void instance_actor_found(struct agent *agent, const char *uid)
{
	if (!uid_is_valid(uid))
		return;
	/* Something of it is there, perhaps only a cgroup: cleaning and removing look everywhere.
	 */
	struct instance_actor *actor = actor_find_or_new(agent, uid);
	if (actor->seen.run == PLAN_RUN_NONE && !actor->seen.leftovers) {
		actor->seen.run = PLAN_RUN_ENDED;
		actor->seen.leftovers = true;
	}
}

void instance_actors_complete(struct agent *agent)
{
	struct instance_actor *actor, *next;

	HASH_ITER(hh, agent->instances, actor, next)
	{
		if (actor->session == agent->session && actor->want)
			continue;
		log_info("instance %s: nobody wants it, removing it", actor->uid);
		unwant(actor);
	}
}

void instance_actors_tell(struct agent *agent)
{
	struct instance_actor *actor, *next;

	HASH_ITER(hh, agent->instances, actor, next)
	actor->told = 0;
}

void instance_actors_wake(struct agent *agent)
{
	struct instance_actor *actor, *next;

	HASH_ITER(hh, agent->instances, actor, next)
	if (!actor->task)
		actor_advance(actor);
}

void instance_actors_reattach(struct agent *agent, const char *network_uid)
{
	struct instance_actor *actor, *next;

	HASH_ITER(hh, agent->instances, actor, next)
	{
		for (size_t i = 0; actor->want && i < actor_spec(actor)->port_count; i++)
			if (strcmp(actor_spec(actor)->ports[i].network_uid, network_uid) == 0) {
				actor->seen.attached = false;
				actor->ports_stale = actor->task != NULL;
			}
	}
}

static bool is_limited(const struct instance_spec *spec)
{
	for (size_t i = 0; i < spec->port_count; i++)
		if (!spec->ports[i].leaving &&
		    (spec->ports[i].limits.ingress_bps || spec->ports[i].limits.egress_bps))
			return true;
	return false;
}

void instance_actors_relimit(struct agent *agent)
{
	struct instance_actor *actor, *next;
	bool any = false;

	HASH_ITER(hh, agent->instances, actor, next)
	{
		if (!actor->want || !is_running(actor) || !is_limited(actor_spec(actor)))
			continue;
		actor->seen.attached = false;
		actor->ports_stale = actor->task != NULL;
		any = true;
	}
	if (any)
		instance_actors_wake(agent);
}

/* -- what others ask -------------------------------------------------------------------------- */

int instance_pid(struct agent *agent, const char *uid, pid_t *ret)
{
	struct instance_actor *actor = actor_find(agent, uid);

	if (!actor || !is_running(actor))
		return -ESRCH;
	*ret = actor->pid;
	return 0;
}

void instance_actors_each_running(struct agent *agent, instance_running_fn fn, void *data)
{
	struct instance_actor *actor, *next;

	HASH_ITER(hh, agent->instances, actor, next)
	{
		if (actor->want && is_running(actor))
			fn(actor->want->instance, actor->pid, data);
	}
}

void instance_actors_each(struct agent *agent, instance_fn fn, void *data)
{
	struct instance_actor *actor, *next;

	HASH_ITER(hh, agent->instances, actor, next)
	{
		if (actor->want)
			fn(actor->want->instance, is_running(actor), data);
	}
}

int instance_find_stdio(struct agent *agent, const char *uid, struct instance_stdio *ret)
{
	struct instance_actor *actor = actor_find(agent, uid);
	const struct stdio_options *stdio;

	if (!actor || !actor->want)
		return -ESRCH;
	stdio = &actor_spec(actor)->stdio;
	*ret = (struct instance_stdio){
		.running =
			actor->seen.run >= PLAN_RUN_STARTING && actor->seen.run <= PLAN_RUN_PAUSED,
		.tty = stdio->tty,
		.has_input = stdio->stdin_mode != STDIN_NONE,
		.once = stdio->stdin_mode == STDIN_ONCE,
		.machine = actor_spec(actor)->type == INSTANCE_VM,
	};
	return 0;
}

bool instance_is_alive(struct agent *agent, const char *uid)
{
	struct instance_actor *actor = actor_find(agent, uid);

	if (!actor || !actor->want)
		return false;
	struct plan_want want = actor_want(actor);
	if (actor->seen.run != PLAN_RUN_NONE || actor->task)
		return true;
	return plan_restarts(&want, &actor->seen) || want.start_seq > actor->seen.start_seq;
}

char **instance_actors_list(struct agent *agent)
{
	struct instance_actor *actor, *next;
	char **list = mem_new0(char *);

	HASH_ITER(hh, agent->instances, actor, next)
	strv_append(&list, actor->uid);
	return list;
}

char **instance_actors_list_ports(struct agent *agent)
{
	struct instance_actor *actor, *next;
	char **list = mem_new0(char *);

	HASH_ITER(hh, agent->instances, actor, next)
	{
		for (size_t i = 0; actor->want && i < actor_spec(actor)->port_count; i++)
			strv_append(&list, actor_spec(actor)->ports[i].uid);
	}
	return list;
}

void instance_actors_free(struct agent *agent)
{
	struct instance_actor *actor, *next;

	HASH_ITER(hh, agent->instances, actor, next)
	actor_free(actor);
}
