#include "agent/plan.h"

enum { RESTART_DELAY_FIRST_MS = 100, RESTART_DELAY_MAX_MS = 60000 };

const char *plan_step_name(enum plan_step step)
{
	static const char *const names[] = {
		[PLAN_NONE] = "none",     [PLAN_PREPARE] = "prepare", [PLAN_SPAWN] = "spawn",
		[PLAN_ATTACH] = "attach", [PLAN_START] = "start",     [PLAN_PAUSE] = "pause",
		[PLAN_RESUME] = "resume", [PLAN_LIMIT] = "limit",     [PLAN_SIGNAL] = "signal",
		[PLAN_KILL] = "kill",     [PLAN_CLEAN] = "clean",     [PLAN_GIVE_UP] = "give up",
		[PLAN_SETTLE] = "settle", [PLAN_REMOVE] = "remove",
	};

	return names[step];
}

bool plan_restarts(const struct plan_want *want, const struct plan_seen *seen)
{
	bool always = want->policy == RESTART_ALWAYS || want->policy == RESTART_UNLESS_STOPPED;

	if (!want->wanted || want->target == INSTANCE_TARGET_STOPPED || seen->failed)
		return false;
	if (seen->rebooted)
		return always;
	if (seen->sick != PLAN_SICK_NO)
		return seen->sick == PLAN_SICK_RESTART;
	if (!seen->exited)
		return false;
	if (want->policy == RESTART_ON_FAILURE)
		return seen->exit_code != 0 &&
		       (want->max_retries == 0 || seen->restarts < want->max_retries);
	return always;
}

uint32_t plan_restart_delay_ms(uint32_t restarts)
{
	if (restarts >= 10)
		return RESTART_DELAY_MAX_MS;
	uint32_t delay = (uint32_t) RESTART_DELAY_FIRST_MS << restarts;
	return delay > RESTART_DELAY_MAX_MS ? RESTART_DELAY_MAX_MS : delay;
}

/* A start was asked for that no run has carried out. */
static bool start_asked(const struct plan_want *want, const struct plan_seen *seen)
{
	return want->wanted && want->target != INSTANCE_TARGET_STOPPED &&
	       want->start_seq > seen->start_seq;
}

/* The present run must end. */
static bool must_end(const struct plan_want *want, const struct plan_seen *seen)
{
	return !want->wanted || want->target == INSTANCE_TARGET_STOPPED || seen->doomed ||
	       seen->sick != PLAN_SICK_NO || start_asked(want, seen);
}

static enum plan_step next_without_run(const struct plan_want *want, const struct plan_seen *seen)
{
	if (!want->wanted)
		return seen->leftovers ? PLAN_REMOVE : PLAN_NONE;
	if (want->target == INSTANCE_TARGET_STOPPED)
		return want->start_seq > seen->start_seq ? PLAN_SETTLE : PLAN_NONE;
	if (!start_asked(want, seen) && !(plan_restarts(want, seen) && seen->delay_over))
		return PLAN_NONE;
	if (seen->image == PLAN_NEED_FAILED || seen->network == PLAN_NEED_FAILED)
		return PLAN_GIVE_UP;
	if (seen->image != PLAN_NEED_READY || seen->network != PLAN_NEED_READY)
		return PLAN_NONE;
	return PLAN_PREPARE;
}

static bool limits_differ(const struct plan_seen *seen)
{
	return !seen->limited && !seen->limits_refused;
}

/* What can be missing of a run that goes on: of a running one and of a frozen one. */
static enum plan_step next_missing(const struct plan_seen *seen)
{
	if (!seen->attached && seen->network == PLAN_NEED_READY)
		return PLAN_ATTACH;
	return limits_differ(seen) ? PLAN_LIMIT : PLAN_NONE;
}

static enum plan_step next_running(const struct plan_want *want, const struct plan_seen *seen)
{
	if (must_end(want, seen)) {
		if (!want->wanted && !want->graceful)
			return PLAN_KILL;
		if (!seen->stop_sent)
			return PLAN_SIGNAL;
		return seen->stop_expired ? PLAN_KILL : PLAN_NONE;
	}
	if (!seen->attached || limits_differ(seen))
		return next_missing(seen);
	return want->target == INSTANCE_TARGET_PAUSED ? PLAN_PAUSE : PLAN_NONE;
}

enum plan_step plan_next(const struct plan_want *want, const struct plan_seen *seen)
{
	/* Without the keeper nobody knows what runs; nothing that depends on it is begun. */
	if (!seen->keeper)
		return PLAN_NONE;
	switch (seen->run) {
	case PLAN_RUN_NONE:
		return next_without_run(want, seen);
	case PLAN_RUN_PREPARED:
		return must_end(want, seen) ? PLAN_CLEAN : PLAN_SPAWN;
	case PLAN_RUN_STARTING:
		/* It ends by itself in milliseconds, or is taken for stuck. */
		return seen->stop_expired ? PLAN_KILL : PLAN_NONE;
	case PLAN_RUN_CREATED:
		/* Nothing of the user's runs yet: there is nobody who would want to end in peace.
		 */
		if (must_end(want, seen))
			return PLAN_KILL;
		if (seen->attached)
			return PLAN_START;
		if (seen->network == PLAN_NEED_FAILED)
			return PLAN_GIVE_UP;
		/* After a restart of ours the network may not be looked at yet. */
		return seen->network == PLAN_NEED_READY ? PLAN_ATTACH : PLAN_NONE;
	case PLAN_RUN_RUNNING:
		return next_running(want, seen);
	case PLAN_RUN_PAUSED:
		/* What is frozen cannot even be killed on cgroup v1. */
		if (must_end(want, seen) || want->target == INSTANCE_TARGET_RUNNING)
			return PLAN_RESUME;
		return next_missing(seen);
	case PLAN_RUN_ENDED:
		return PLAN_CLEAN;
	}
	return PLAN_NONE;
}

static enum instance_state state_without_run(const struct plan_want *want,
					     const struct plan_seen *seen)
{
	bool starts = start_asked(want, seen) || plan_restarts(want, seen);

	if (!want->wanted)
		return seen->leftovers ? INSTANCE_STOPPING : INSTANCE_GONE;
	if (!starts)
		return seen->failed ? INSTANCE_FAILED : INSTANCE_STOPPED;
	if (seen->image == PLAN_NEED_WORKING)
		return INSTANCE_PULLING;
	if (seen->image == PLAN_NEED_WAIT || seen->network == PLAN_NEED_WAIT)
		return INSTANCE_PENDING;
	return INSTANCE_CREATING;
}

enum instance_state plan_state(const struct plan_want *want, const struct plan_seen *seen)
{
	bool ends = must_end(want, seen);

	switch (seen->run) {
	case PLAN_RUN_NONE:
		return state_without_run(want, seen);
	case PLAN_RUN_PREPARED:
	case PLAN_RUN_STARTING:
	case PLAN_RUN_CREATED:
		return ends ? INSTANCE_STOPPING : INSTANCE_CREATING;
	case PLAN_RUN_RUNNING:
		return ends            ? INSTANCE_STOPPING
		       : seen->booting ? INSTANCE_CREATING
				       : INSTANCE_RUNNING;
	case PLAN_RUN_PAUSED:
		return ends ? INSTANCE_STOPPING : INSTANCE_PAUSED;
	case PLAN_RUN_ENDED:
		break;
	}
	/* Its things are being taken away; what comes next decides how that looks. */
	if (ends)
		return INSTANCE_STOPPING;
	return plan_restarts(want, seen) ? INSTANCE_CREATING : INSTANCE_STOPPING;
}

bool plan_settled(const struct plan_want *want, const struct plan_seen *seen)
{
	switch (plan_state(want, seen)) {
	case INSTANCE_RUNNING:
		return want->target == INSTANCE_TARGET_RUNNING && seen->attached &&
		       !limits_differ(seen);
	case INSTANCE_PAUSED:
		return want->target == INSTANCE_TARGET_PAUSED && seen->attached &&
		       !limits_differ(seen);
	case INSTANCE_STOPPED:
	case INSTANCE_FAILED:
	case INSTANCE_GONE:
		return true;
	default:
		return false;
	}
}
