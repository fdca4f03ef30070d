#include <string.h>
#include <unistd.h>

#include "agent/exit_code.h"
#include "agent/instance_actor_internal.h"
#include "agent/instance_machine.h"
#include "agent/limits.h"
#include "agent/stream.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/member.h"

/* The keeper's job of an instance: what the keeper says about it, and what its silence means. */

static void on_spawned(struct instance_actor *actor, const struct keeper_msg *msg)
{
	int64_t started_ms = 0;
	bool paused = false;

	actor->begun = true;
	if (actor->pid == msg->pid && actor->seen.run >= PLAN_RUN_CREATED &&
	    actor->seen.run <= PLAN_RUN_PAUSED)
		return;
	actor->pid = msg->pid;
	actor->seen.attached = false;
	/* Of a runtime that seemed to hang and did its work after all. */
	actor->seen.stop_sent = actor->seen.stop_expired = actor->kill_sent = false;
	retry_stop(&actor->timer);
	if (!actor->limits_known)
		actor->limits_known = limits_read(actor->agent, actor->uid, &actor->limits) == 0;
	if (actor->seen.run == PLAN_RUN_STARTING ||
	    instance_read_started(actor->agent, actor->uid, &started_ms, &paused) < 0) {
		actor->seen.run = PLAN_RUN_CREATED;
		return;
	}
	/* It ran before this agent did. */
	actor->record.started_ms = started_ms;
	actor->seen.run = paused ? PLAN_RUN_PAUSED : PLAN_RUN_RUNNING;
}

/*
 * What the guest of a machine has told in the end counts, not how its monitor ended.  False: its
 * command could not be run.
 */
static bool read_machine(struct instance_actor *actor)
{
	AUTO(free) char *error = NULL;

	if (!actor->want || actor_spec(actor)->type != INSTANCE_VM)
		return true;
	actor->monitor_code = actor->record.exit_code;
	actor->crashed = !instance_machine_ended(actor, &actor->record.exit_code, &error) &&
			 !actor->kill_sent;
	if (!error || actor->seen.stop_sent || actor->seen.doomed)
		return true;
	run_doom(actor, error);
	return false;
}

static void on_exited(struct instance_actor *actor, const struct keeper_msg *msg)
{
	bool starting = actor->task && actor->task->step == PLAN_START;
	int64_t started_ms = 0;
	bool paused, started;

	actor->reaped = true;
	/* Its end is on record already: only the cleaning is left. */
	if (actor->record.ended || (actor->seen.run == PLAN_RUN_ENDED && actor->begun)) {
		actor->seen.run = PLAN_RUN_ENDED;
		return;
	}
	started = actor->seen.run == PLAN_RUN_RUNNING || actor->seen.run == PLAN_RUN_PAUSED ||
		  starting;
	/* Found dead at our own start: did it ever run? */
	if (!actor->begun && actor->seen.run == PLAN_RUN_NONE &&
	    instance_read_started(actor->agent, actor->uid, &started_ms, &paused) == 0) {
		actor->record.started_ms = started_ms;
		started = true;
		instance_health_recall(actor);
	}
	actor->begun = true;
	actor->pid = 0;
	actor->seen.run = PLAN_RUN_ENDED;
	actor->record.exit_code = exit_code_of(msg, -1);
	bool ran = read_machine(actor);
	actor->seen.exit_code = actor->record.exit_code;
	actor->record.finished_ms = clock_realtime_ms(clock_system());
	retry_stop(&actor->timer);
	if (started && ran)
		actor->seen.exited = !actor->seen.stop_sent && !actor->seen.sick;
	else if (ran && !actor->seen.stop_sent && !actor->seen.doomed)
		run_doom(actor, "it ended before it was started");
	log_info("instance %s: ended with %lld", actor->uid, (long long) actor->record.exit_code);
	attach_instance_ended(actor->agent, actor->uid, actor->record.exit_code);
}

static void on_failed(struct instance_actor *actor, const struct keeper_msg *msg)
{
	const char *message = msg->message ? msg->message : "brume-oci failed";
	int code = exit_code_of(msg, -1);

	if (strncmp(message, "brume-oci: ", 11) == 0)
		message += 11;
	if (!actor->record.ended)
		run_doom(actor, message);
	/* As a shell has it: a program that is not there, or none.  All else is no code of its. */
	if (exit_code_is_programs(code))
		actor->record.exit_code = actor->seen.exit_code = code;
	actor->seen.run = PLAN_RUN_ENDED;
}

void instance_actor_keeper_event(struct agent *agent, const struct keeper_msg *msg)
{
	struct instance_actor *actor;

	if (!uid_is_valid(msg->job + 2))
		return;
	actor = actor_find_or_new(agent, msg->job + 2);
	actor->listed = true;
	switch (msg->type) {
	case KEEPER_STARTING:
		actor->seen.run = PLAN_RUN_STARTING;
		break;
	case KEEPER_SPAWNED:
		on_spawned(actor, msg);
		attach_instance_runs(agent, actor->uid);
		break;
	case KEEPER_FAILED:
		on_failed(actor, msg);
		break;
	case KEEPER_EXITED:
		on_exited(actor, msg);
		break;
	default:
		/* Refused: a signal to what has just ended. */
		return;
	}
	/* While the keeper is still listing, others may be missing. */
	if (agent_keeper(agent))
		actor_advance(actor);
}

/* The keeper has no job of it. */
static void without_job(struct instance_actor *actor)
{
	struct plan_seen *seen = &actor->seen;
	AUTO(free) char *run = agent_run_path(actor->agent, actor->uid, NULL);
	AUTO(free) char *oci = mem_printf("%s/oci/%s", actor->agent->options->run, actor->uid);

	switch (seen->run) {
	case PLAN_RUN_RUNNING:
	case PLAN_RUN_PAUSED:
		seen->exited = !seen->stop_sent;
		seen->exit_code = actor->record.exit_code = -1;
		seen->run = PLAN_RUN_ENDED;
		attach_instance_ended(actor->agent, actor->uid, -1);
		return;
	case PLAN_RUN_STARTING:
	case PLAN_RUN_CREATED:
		run_take_back(actor);
		seen->run = PLAN_RUN_ENDED;
		return;
	case PLAN_RUN_PREPARED:
	case PLAN_RUN_ENDED:
		return;
	case PLAN_RUN_NONE:
		break;
	}
	if (actor->has_slot && !actor->record.ended && !actor->task) {
		bool same_boot = strcmp(actor->record.run_id, actor->agent->run_id) == 0;

		actor->record.ended = true;
		if (same_boot)
			run_take_back(actor);
		seen->rebooted = !same_boot;
	}
	if (access(run, F_OK) == 0 || access(oci, F_OK) == 0)
		seen->run = PLAN_RUN_ENDED;
}

void instance_actors_keeper_listed(struct agent *agent)
{
	struct instance_actor *actor, *next;

	HASH_ITER(hh, agent->instances, actor, next)
	{
		if (!actor->listed)
			without_job(actor);
		actor_advance(actor);
	}
}

void instance_actors_keeper_lost(struct agent *agent)
{
	struct instance_actor *actor, *next;

	HASH_ITER(hh, agent->instances, actor, next)
	actor->listed = actor->kill_sent = false;
}
