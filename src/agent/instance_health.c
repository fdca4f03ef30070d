#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "agent/health.h"
#include "agent/instance_actor_internal.h"
#include "agent/probe.h"
#include "agent/settings.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

/*
 * The health checks of the present run: when they are made, what is remembered of them, what
 * follows.  RUN/instances/UID/health.json keeps the state for the next agent; its time of change is
 * that of the last check.
 */

enum {
	TIMER_ACCURACY_MS = 50,
	PROBES_MAX = 32, /* of the node at the same time; others wait a moment */
	BUSY_MS = 50,
	BUSY_SPREAD_BITS = 24, /* of 32 random ones: up to 256 ms more */
	BROKEN_MS = 1000,
	HEALTH_FILE_MAX = 64 * 1024,
};

struct instance_health {
	struct instance_actor *actor;
	struct settings settings;
	struct health health;
	struct health_status status; /* what is known */
	struct health_status told;   /* and what of it people have heard: changes only */
	char *path;
	sd_event_source *timer;
	struct probe *probe;
	int64_t probe_ms; /* realtime of its beginning */
	int64_t ended_ms; /* realtime of the last check's end; 0: there was none */
};

static int64_t now_ms(void)
{
	return clock_realtime_ms(clock_system());
}

static uint32_t random32(void)
{
	uint32_t value;

	rng_system()->fill(rng_system(), &value, sizeof(value));
	return value;
}

/* ---- what lasts as long as the run ---- */

static void store(struct instance_health *watch, bool changed)
{
	AUTO(json_decref) json_t *object = NULL;
	AUTO(free) char *text = NULL;
	int r;

	/* Good news of a healthy instance is no news. */
	if (!changed && !watch->health.failing && utimensat(AT_FDCWD, watch->path, NULL, 0) == 0)
		return;
	object = json_pack("{s:b, s:b, s:o}", "failing", watch->health.failing, "checked",
			   watch->health.checked, "health", health_status_encode(&watch->status));
	text = json_text(object);
	r = file_write_atomic(AT_FDCWD, watch->path, text, strlen(text), 0600, 0);
	if (r < 0)
		log_error("instance %s: write %s: %s", watch->actor->uid, watch->path,
			  strerror(-r));
}

static int read_file(const char *path, struct health *health, struct health_status *status,
		     int64_t *ret_ended_ms)
{
	AUTO(json_decref) json_t *object = NULL;
	AUTO(free) char *text = NULL;
	struct json_reader in = { .where = "" };
	struct stat st;
	size_t size;
	int r = file_read(AT_FDCWD, path, HEALTH_FILE_MAX, &text, &size);

	if (r == 0)
		r = json_parse(text, size, HEALTH_FILE_MAX, &object, NULL);
	if (r < 0)
		return r;
	json_read_bool(&in, object, "failing", &health->failing);
	json_read_bool(&in, object, "checked", &health->checked);
	health_status_read(&in, object, "health", status);
	r = json_reader_finish(&in, object);
	if (r < 0)
		return r;
	health->state = status->state;
	health->streak = status->failing_streak;
	if (ret_ended_ms && stat(path, &st) == 0)
		*ret_ended_ms = (int64_t) st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
	return 0;
}

static void tell(struct instance_health *watch)
{
	health_status_done(&watch->told);
	health_status_copy(&watch->told, &watch->status);
}

static struct instance_health *watch_new(struct instance_actor *actor)
{
	struct instance_health *watch = mem_new0(struct instance_health);
	AUTO(free) char *settings = agent_run_path(actor->agent, actor->uid, "settings.json");

	watch->actor = actor;
	watch->path = agent_run_path(actor->agent, actor->uid, "health.json");
	/* Of an instance that an older brume has started there are none: no check. */
	(void) settings_read(settings, &watch->settings, NULL);
	if (watch->settings.health.type == HEALTH_TYPE_NONE)
		return watch;
	health_init(&watch->health);
	if (read_file(watch->path, &watch->health, &watch->status, &watch->ended_ms) < 0) {
		health_init(&watch->health);
		health_status_done(&watch->status);
		watch->status.state = HEALTH_STARTING;
	}
	tell(watch);
	return watch;
}

void instance_health_free(struct instance_health *watch)
{
	if (!watch)
		return;
	sd_event_source_disable_unref(watch->timer);
	probe_cancel(watch->probe);
	settings_done(&watch->settings);
	health_status_done(&watch->status);
	health_status_done(&watch->told);
	free(watch->path);
	free(watch);
}

/* ---- checks ---- */

static void schedule(struct instance_health *watch, uint32_t delay_ms);

/* Unhealthy: what was asked for happens now.  The plan does the rest. */
static void act(struct instance_health *watch)
{
	struct instance_actor *actor = watch->actor;
	struct keeper_client *keeper = agent_keeper(actor->agent);
	AUTO(free)
	char *words = mem_printf("its health check failed %u times", watch->health.streak);
	char job[KEEPER_JOB_MAX + 1];

	switch (watch->settings.health.on_failure) {
	case HEALTH_ON_FAILURE_NONE:
		return;
	case HEALTH_ON_FAILURE_RESTART:
		actor->seen.sick = PLAN_SICK_RESTART;
		break;
	case HEALTH_ON_FAILURE_STOP:
		actor->seen.sick = PLAN_SICK_STOP;
		break;
	case HEALTH_ON_FAILURE_KILL:
		run_job(actor, job);
		if (keeper)
			keeper_client_signal(keeper, job, SIGKILL);
		break;
	}
	actor_set_error(actor, words);
	log_warning("instance %s: %s: %s", actor->uid, words,
		    health_on_failure_names[watch->settings.health.on_failure]);
}

static void on_result(void *data, const struct probe_result *result)
{
	struct instance_health *watch = data;
	struct instance_actor *actor = watch->actor;
	struct health_verdict verdict;
	int64_t now = now_ms();

	watch->probe = NULL;
	if (result->exit_code == PROBE_LOST) {
		free(result->output);
		schedule(watch, BROKEN_MS);
		return;
	}
	health_next(&watch->health, &watch->settings.health, result->exit_code == 0,
		    now - actor->record.started_ms, &verdict);
	health_status_add(&watch->status, watch->probe_ms, (uint32_t) (now - watch->probe_ms),
			  result->exit_code, result->output);
	watch->status.state = watch->health.state;
	watch->status.failing_streak = watch->health.streak;
	watch->ended_ms = now;
	store(watch, verdict.changed);
	if (verdict.changed) {
		log_info("instance %s: %s, the check %s", actor->uid,
			 health_state_names[watch->health.state],
			 watch->health.failing ? "failed" : "passed");
		tell(watch);
	}
	if (verdict.act)
		act(watch);
	actor_advance(actor);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct instance_health *watch = data;
	struct instance_actor *actor = watch->actor;
	struct error err = {};

	(void) source;
	(void) usec;
	watch->timer = sd_event_source_disable_unref(watch->timer);
	if (!agent_keeper(actor->agent)) {
		schedule(watch, BROKEN_MS);
		return 0;
	}
	if (probe_count(actor->agent) >= PROBES_MAX) {
		schedule(watch, BUSY_MS + (random32() >> BUSY_SPREAD_BITS));
		return 0;
	}
	watch->probe_ms = now_ms();
	if (probe_start(actor->agent, actor->uid, actor->pid, &watch->settings.health, on_result,
			watch, &watch->probe, &err) < 0) {
		log_warning("instance %s: health check: %s", actor->uid, err.msg);
		schedule(watch, BROKEN_MS);
	}
	return 0;
}

static void schedule(struct instance_health *watch, uint32_t delay_ms)
{
	sd_event_source_disable_unref(watch->timer);
	watch->timer = NULL;
	if (sd_event_add_time_relative(watch->actor->agent->event, &watch->timer, CLOCK_MONOTONIC,
				       (uint64_t) delay_ms * 1000, TIMER_ACCURACY_MS * 1000,
				       on_timer, watch) < 0)
		abort(); /* no memory: like every other small allocation */
}

static void rest(struct instance_health *watch)
{
	watch->timer = sd_event_source_disable_unref(watch->timer);
	probe_cancel(watch->probe);
	watch->probe = NULL;
}

/* It runs, and nothing else is about to happen to it. */
static bool is_steady(const struct instance_actor *actor)
{
	return actor->seen.run == PLAN_RUN_RUNNING && !actor->seen.booting &&
	       !actor->seen.stop_sent && !actor->seen.sick && !actor->seen.doomed &&
	       !(actor->task && actor->task->step == PLAN_PAUSE);
}

void instance_health_update(struct instance_actor *actor)
{
	struct instance_health *watch = actor->health;

	if (actor->seen.run != PLAN_RUN_RUNNING && actor->seen.run != PLAN_RUN_PAUSED) {
		instance_health_free(watch);
		actor->health = NULL;
		return;
	}
	if (!watch) {
		watch = actor->health = watch_new(actor);
		/* The agent that saw it did not live to act. */
		if (watch->health.state == HEALTH_UNHEALTHY && !actor->seen.stop_sent)
			act(watch);
	}
	if (watch->settings.health.type == HEALTH_TYPE_NONE)
		return;
	if (!is_steady(actor)) {
		rest(watch);
	} else if (!watch->timer && !watch->probe) {
		int64_t now = now_ms(), since = watch->ended_ms ? now - watch->ended_ms : -1;
		uint32_t interval_ms = health_interval_ms(&watch->health, &watch->settings.health,
							  now - actor->record.started_ms);

		/* A clock that was set back does not make it wait for long. */
		if (watch->ended_ms && since < 0)
			since = 0;
		schedule(watch, health_delay_ms(interval_ms, since, random32()));
	}
}

void instance_health_recall(struct instance_actor *actor)
{
	AUTO(free) char *path = agent_run_path(actor->agent, actor->uid, "health.json");
	AUTO(free) char *settings_path = agent_run_path(actor->agent, actor->uid, "settings.json");
	AUTO(settings_done) struct settings settings = {};
	struct health_status status = {};
	struct health health = {};

	if (settings_read(settings_path, &settings, NULL) == 0 &&
	    read_file(path, &health, &status, NULL) == 0 && health.state == HEALTH_UNHEALTHY)
		actor->seen.sick =
			settings.health.on_failure == HEALTH_ON_FAILURE_RESTART ? PLAN_SICK_RESTART
			: settings.health.on_failure == HEALTH_ON_FAILURE_STOP  ? PLAN_SICK_STOP
										: PLAN_SICK_NO;
	health_status_done(&status);
}

const struct health_status *instance_health_status(const struct instance_actor *actor)
{
	const struct instance_health *watch = actor->health;

	return watch && watch->settings.health.type != HEALTH_TYPE_NONE ? &watch->told : NULL;
}
