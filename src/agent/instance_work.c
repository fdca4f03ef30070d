#include <signal.h>
#include <string.h>

#include "agent/exit_code.h"
#include "agent/instance_actor_internal.h"
#include "agent/instance_cards.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"

/* The steps that block: handed to a worker (instance_task.c), and what follows from their result.
 */

enum { RETRY_FIRST_MS = 200, RETRY_MAX_MS = 60 * 1000 };

/* MACs that control makes of an address go with it; others may have had another, and that a lease.
 */
static bool has_own_mac(const struct port *port)
{
	return strncmp(port->mac, PORT_OWN_MAC, strlen(PORT_OWN_MAC)) != 0;
}

/* Names and leases of its ports are published by now, or withdrawn. */
static void tell_networks(struct instance_actor *actor, const struct instance_task *task)
{
	const struct instance_spec *spec = task->instance ? &task->instance->spec : NULL;

	for (size_t i = 0; spec && i < spec->port_count; i++) {
		const struct port *port = &spec->ports[i];

		if (task->step == PLAN_CLEAN || task->runs || has_own_mac(port))
			network_ports_changed(actor->agent, port->network_uid);
	}
}

static void after_prepare(struct instance_actor *actor, struct instance_task *task)
{
	if (task->result < 0) {
		run_doom(actor, task->err.msg);
		actor->seen.run = PLAN_RUN_ENDED;
		return;
	}
	memcpy(actor->record.image_digest, task->record.image_digest,
	       sizeof(actor->record.image_digest));
	actor->has_image = true;
	actor->limits = instance_limits_of(&task->instance->spec);
	actor->limits_known = true;
	actor->rootfs_fd = TAKE_FD(task->rootfs_fd);
	actor->grants = TAKE_PTR(task->grants);
	actor->vm_fds = TAKE_PTR(task->vm_fds);
	actor->owner = task->owner;
}

static void after_attach(struct instance_actor *actor, struct instance_task *task)
{
	const struct instance *want = actor->want ? actor->want->instance : NULL;

	/* An address that is still in use must not be anybody else's yet. */
	if (task->stuck) {
		log_error("instance %s: network: %s, trying again", actor->uid, task->err.msg);
		retry_later(&actor->again, actor->agent->event, RETRY_FIRST_MS, RETRY_MAX_MS);
		return;
	}
	/* What already runs goes on, whatever became of its network. */
	if (task->result < 0 && actor->seen.run == PLAN_RUN_CREATED)
		run_doom(actor, task->err.msg);
	else if (task->result < 0)
		log_error("instance %s: network: %s", actor->uid, task->err.msg);
	mem_replace(&actor->ports_error, task->result < 0 ? task->err.msg : NULL);
	instance_networks_describe(&task->instance->spec, &task->networks, actor->way);
	/* It may have been renamed meanwhile, or joined one more. */
	actor->seen.attached = !want || (!actor->ports_stale &&
					 strcmp(want->meta.name, task->instance->meta.name) == 0 &&
					 instance_ports_same(&want->spec, &task->instance->spec));
	actor->ports_stale = false;
}

static void after_start(struct instance_actor *actor, struct instance_task *task)
{
	if (task->result < 0) {
		run_doom(actor, task->err.msg);
		return;
	}
	actor->record.started_ms = task->started_ms;
	if (actor->seen.run == PLAN_RUN_CREATED)
		actor->seen.run = PLAN_RUN_RUNNING;
}

static void after_pause_or_resume(struct instance_actor *actor, struct instance_task *task)
{
	bool pause = task->step == PLAN_PAUSE;

	if (task->result < 0) {
		log_error("instance %s: %s, trying again", actor->uid, task->err.msg);
		retry_later(&actor->again, actor->agent->event, RETRY_FIRST_MS, RETRY_MAX_MS);
	} else if (actor->seen.run == (pause ? PLAN_RUN_RUNNING : PLAN_RUN_PAUSED)) {
		actor->seen.run = pause ? PLAN_RUN_PAUSED : PLAN_RUN_RUNNING;
	}
}

static void after_limit(struct instance_actor *actor, struct instance_task *task)
{
	struct instance_limits limits = instance_limits_of(&task->instance->spec);

	if (task->result == 0) {
		actor->limits = limits;
		actor->limits_known = true;
		mem_replace(&actor->update_error, NULL);
		return;
	}
	log_warning("instance %s: its limits stay as they are: %s", actor->uid, task->err.msg);
	actor->refused = limits;
	mem_replace(&actor->update_error, task->err.msg);
}

static void after_clean(struct instance_actor *actor, struct instance_task *task)
{
	struct keeper_client *keeper = agent_keeper(actor->agent);
	char job[KEEPER_JOB_MAX + 1];

	if (task->result < 0) {
		log_error("instance %s: %s, trying again", actor->uid, task->err.msg);
		retry_later(&actor->again, actor->agent->event, RETRY_FIRST_MS, RETRY_MAX_MS);
		return;
	}
	retry_stop(&actor->again);
	retry_stop(&actor->timer);
	actor_set_error(actor, task->record.error);
	if (actor->listed && keeper) {
		run_job(actor, job);
		keeper_client_forget(keeper, job);
		actor->listed = false;
	}
	actor->seen.run = PLAN_RUN_NONE;
	actor->seen.doomed = false;
	actor->seen.delay_over = false;
}

static void after_remove(struct instance_actor *actor, struct instance_task *task)
{
	if (task->result < 0) {
		log_error("instance %s: %s, trying again", actor->uid, task->err.msg);
		retry_later(&actor->again, actor->agent->event, RETRY_FIRST_MS, RETRY_MAX_MS);
		return;
	}
	actor->seen.leftovers = false;
	log_info("instance %s: removed", actor->uid);
}

/* On a worker; the actor stays, and keeps its hands off the task, until done() has run. */
static void work(void *data)
{
	struct instance_actor *actor = data;

	instance_task_run(actor->task);
}

static void conclude(struct instance_actor *actor)
{
	struct instance_task *task = actor->task;

	actor->task = NULL;
	log_debug("instance %s: %s: %s", actor->uid, plan_step_name(task->step),
		  task->result < 0 ? task->err.msg : "done");
	switch (task->step) {
	case PLAN_PREPARE:
		after_prepare(actor, task);
		break;
	case PLAN_ATTACH:
		after_attach(actor, task);
		tell_networks(actor, task);
		break;
	case PLAN_START:
		after_start(actor, task);
		break;
	case PLAN_LIMIT:
		after_limit(actor, task);
		break;
	case PLAN_CLEAN:
		after_clean(actor, task);
		tell_networks(actor, task);
		break;
	case PLAN_REMOVE:
		after_remove(actor, task);
		break;
	default:
		after_pause_or_resume(actor, task);
	}
	instance_task_free(task);
	actor_want_unref(actor->task_want);
	actor->task_want = NULL;
	actor_advance(actor);
}

static void on_guest_told(struct instance_actor *actor, const struct error *failure)
{
	if (failure->code < 0) {
		actor->task->result = failure->code;
		actor->task->err = *failure;
	}
	conclude(actor);
}

/* A machine's ports are there when its guest has set them up, too. */
static void done(void *data)
{
	struct instance_actor *actor = data;
	struct instance_task *task = actor->task;

	if (task->step != PLAN_ATTACH || task->result < 0 || !task->network ||
	    !instance_cards_tell(actor, task->network, on_guest_told))
		conclude(actor);
}

void actor_submit(struct instance_actor *actor, enum plan_step step, const char *image_uid,
		  const struct instance_networks *networks)
{
	struct instance_task *task = mem_new0(struct instance_task);

	if (step == PLAN_PREPARE)
		run_begin(actor);
	else if (step == PLAN_CLEAN)
		run_end(actor);
	task->agent = actor->agent;
	task->step = step;
	memcpy(task->uid, actor->uid, sizeof(task->uid));
	memcpy(task->image_uid, image_uid, sizeof(task->image_uid));
	task->networks = *networks;
	task->pid = actor->pid;
	task->runs = actor->seen.run == PLAN_RUN_RUNNING || actor->seen.run == PLAN_RUN_PAUSED;
	task->killed = actor->begun && actor->record.exit_code == EXIT_CODE_SIGNAL + SIGKILL &&
		       !actor->kill_sent;
	task->reaped = actor->reaped;
	task->crashed = actor->crashed;
	task->monitor_code = actor->monitor_code;
	task->rootfs_fd = -1;
	record_copy(&task->record, &actor->record);
	if (actor->want) {
		actor->want->refs++;
		actor->task_want = actor->want;
		task->instance = actor->want->instance;
	}
	run_close_fds(actor);
	actor->task = task;
	/* Disks are made of images then, which takes seconds. */
	bool slow = step == PLAN_PREPARE && task->instance->spec.type == INSTANCE_VM;
	pool_submit(slow ? actor->agent->slow_pool : actor->agent->pool, work, done, actor);
}
