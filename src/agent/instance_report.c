#include "agent/instance_actor_internal.h"
#include "agent/instance_machine.h"
#include "agent/stream.h"

/* The status of an instance, told once per real change. */

void actor_tell(struct instance_actor *actor)
{
	struct plan_want want = actor_want(actor);
	struct record *record = &actor->record;
	struct instance_status status;
	AUTO(free) char *pending = NULL;

	if (!actor->want || !link_connected(actor->agent->link) || !actor->seen.keeper)
		return;
	if (plan_settled(&want, &actor->seen) && !actor->task)
		actor->generation = actor->want->instance->meta.generation;
	instance_status_init(&status);
	status.generation = actor->generation;
	status.state = plan_state(&want, &actor->seen);
	/* Of one that ran before we did more is known in a moment. */
	if (actor->generation == 0 && !actor->seen.attached &&
	    (status.state == INSTANCE_RUNNING || status.state == INSTANCE_PAUSED))
		return;
	/* A worker is about to change what is there: not yet the end of it. */
	if (status.state == INSTANCE_GONE && actor->task)
		status.state = INSTANCE_STOPPING;
	status.start_seq = actor->seen.start_seq;
	status.restarts = record->restarts;
	status.started_ms = record->started_ms;
	if (status.state == INSTANCE_RUNNING || status.state == INSTANCE_PAUSED) {
		status.pid = actor->pid;
		status.update_error = actor->seen.limits_refused ? actor->update_error : NULL;
		status.ports_error = actor->ports_error;
	} else {
		status.finished_ms = record->finished_ms;
		status.exit_code = record->exit_code;
	}
	status.error = record->error;
	status.image_digest = record->image_digest;
	/* Borrowed, like all the others. */
	if (instance_health_status(actor))
		status.health = *instance_health_status(actor);
	if (instance_machine_status(actor))
		status.machine = *instance_machine_status(actor);
	if (status.machine.backend)
		status.machine.pending = pending = vm_pending(actor_spec(actor), &status.machine);
	status.node = (char *) actor->agent->options->node;
	AUTO(json_decref) json_t *json = instance_status_encode(&status);
	uint64_t hash = agent_hash(json);
	if (hash == actor->told)
		return;
	actor->told = hash;
	link_send_status(actor->agent->link, "instance", actor->uid, json);
	logs_instance_changed(actor->agent, actor->uid);
	if (status.state == INSTANCE_FAILED)
		attach_instance_failed(actor->agent, actor->uid,
				       status.error ? status.error : "the instance has failed");
	else if (status.state == INSTANCE_GONE)
		attach_instance_failed(actor->agent, actor->uid, "the instance is deleted");
}
