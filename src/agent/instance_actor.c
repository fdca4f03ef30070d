#include "agent/instance_actor.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include "agent/agent_internal.h"
#include "agent/image_actor.h"
#include "agent/instance_task.h"
#include "agent/retry.h"
#include "agent/stream.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/strv.h"
#include "image/rootfs.h"
#include "model/member.h"

enum {
	ROOTFS_FD_IN_CHILD = 3,
	CREATE_TIMEOUT_MS = 60 * 1000,
	STEADY_MS = 10 * 1000, /* a run this long makes the next restart a first one */
	RETRY_FIRST_MS = 200,
	RETRY_MAX_MS = 60 * 1000,
	SIGNAL_EXIT_BASE = 128,
};

/* What is wanted, kept while a worker reads it; the loop's thread counts. */
struct want {
	unsigned int refs;
	struct instance *instance;
};

struct instance_actor {
	UT_hash_handle hh;
	struct agent *agent;
	char uid[UID_SIZE];
	struct want *want; /* NULL: nobody wants it */
	uint32_t session;
	uint64_t generation; /* carried out */
	struct plan_seen seen;
	struct record record;
	bool has_slot;
	bool has_image; /* image.json says what it lies on */
	bool listed;    /* the keeper has a job of it */
	bool begun;     /* the present run had a process */
	bool kill_sent;
	pid_t pid;
	int rootfs_fd;
	uint32_t owner;
	struct instance_task *task;
	struct want *task_want;
	struct retry timer; /* the end of a grace period, or of a back-off */
	struct retry again; /* a step that failed is tried again */
	uint64_t told;
};

static void advance(struct instance_actor *actor);

static void want_unref(struct want *want)
{
	if (!want || --want->refs > 0)
		return;
	instance_free(want->instance);
	free(want);
}

static struct instance_actor *find(struct agent *agent, const char *uid)
{
	struct instance_actor *actor;

	HASH_FIND_STR(agent->instances, uid, actor);
	return actor;
}

static void on_again(void *data)
{
	advance(data);
}

/* The grace period is over, or the delay before a restart, or brume-oci create hangs. */
static void on_timer(void *data)
{
	struct instance_actor *actor = data;

	if (actor->seen.run == PLAN_RUN_NONE)
		actor->seen.delay_over = true;
	else
		actor->seen.stop_expired = true;
	advance(actor);
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
	actor->seen.exit_code = actor->record.exit_code;
	actor->seen.restarts = actor->record.restarts;
}

static struct instance_actor *find_or_new(struct agent *agent, const char *uid)
{
	struct instance_actor *actor = find(agent, uid);

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
	want_unref(actor->want);
	fd_close(actor->rootfs_fd);
	record_done(&actor->record);
	free(actor);
}

static struct plan_want want_of(const struct instance_actor *actor)
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

static const struct instance_spec *spec_of(const struct instance_actor *actor)
{
	return &actor->want->instance->spec;
}

/* Brings what others do into `seen`; says why when one of them has failed. */
static const char *look_around(struct instance_actor *actor, char image_uid[UID_SIZE],
			       struct network_args *network)
{
	const char *image_error = NULL, *network_error = NULL;
	struct plan_seen *seen = &actor->seen;

	seen->keeper = agent_keeper(actor->agent) != NULL;
	seen->image = seen->network = PLAN_NEED_WAIT;
	if (!actor->want)
		return NULL;
	seen->image =
		actor->has_image
			? PLAN_NEED_READY
			: image_need(actor->agent, actor->want->instance->meta.project,
				     spec_of(actor)->image_name ? spec_of(actor)->image_name : "",
				     image_uid, &image_error);
	seen->network = spec_of(actor)->network_uid[0]
				? network_need(actor->agent, spec_of(actor)->network_uid, network,
					       &network_error)
				: PLAN_NEED_READY;
	return image_error ? image_error : network_error;
}

static void set_error(struct instance_actor *actor, const char *message)
{
	mem_replace(&actor->record.error, message);
}

/* -- what is told ----------------------------------------------------------------------------- */

static void tell(struct instance_actor *actor)
{
	struct plan_want want = want_of(actor);
	struct record *record = &actor->record;
	struct instance_status status;

	if (!actor->want || !link_connected(actor->agent->link) || !actor->seen.keeper)
		return;
	if (plan_settled(&want, &actor->seen) && !actor->task)
		actor->generation = actor->want->instance->meta.generation;
	instance_status_init(&status);
	status.generation = actor->generation;
	status.state = plan_state(&want, &actor->seen);
	/* A worker is about to change what is there: not yet the end of it. */
	if (status.state == INSTANCE_GONE && actor->task)
		status.state = INSTANCE_STOPPING;
	status.start_seq = actor->seen.start_seq;
	status.restarts = record->restarts;
	status.started_ms = record->started_ms;
	if (status.state == INSTANCE_RUNNING || status.state == INSTANCE_PAUSED) {
		status.pid = actor->pid;
	} else {
		status.finished_ms = record->finished_ms;
		status.exit_code = record->exit_code;
	}
	status.error = record->error;
	status.image_digest = record->image_digest;
	status.node = (char *) actor->agent->options->node;
	AUTO(json_decref) json_t *json = instance_status_encode(&status);
	uint64_t hash = agent_hash(json);
	if (hash == actor->told)
		return;
	actor->told = hash;
	link_send_status(actor->agent->link, "instance", actor->uid, json);
	logs_instance_changed(actor->agent, actor->uid);
}

/* -- the steps -------------------------------------------------------------------------------- */

static void job_of(const struct instance_actor *actor, char ret[KEEPER_JOB_MAX + 1])
{
	snprintf(ret, KEEPER_JOB_MAX + 1, "i-%s", actor->uid);
}

/* The run cannot become what is wanted. */
static void doom(struct instance_actor *actor, const char *message)
{
	log_warning("instance %s: cannot start: %s", actor->uid, message);
	set_error(actor, message);
	actor->seen.failed = true;
	actor->seen.doomed = true;
	actor->seen.exited = false;
}

/* A new run begins: everything about the last one is forgotten. */
static void begin_run(struct instance_actor *actor)
{
	struct plan_want want = want_of(actor);
	struct record *record = &actor->record;
	struct plan_seen *seen = &actor->seen;

	if (!actor->has_slot) {
		record->slot = agent_slot_take(actor->agent);
		actor->has_slot = true;
	}
	record->restarts = want.start_seq > seen->start_seq ? 0 : record->restarts + 1;
	record->start_seq = seen->start_seq = want.start_seq;
	record->ended = record->failed = record->exited = false;
	record->exit_code = -1;
	record->started_ms = record->finished_ms = 0;
	set_error(actor, NULL);
	memcpy(record->run_id, actor->agent->run_id, sizeof(record->run_id));
	seen->run = PLAN_RUN_PREPARED;
	seen->attached = seen->doomed = seen->failed = seen->exited = seen->rebooted = false;
	seen->delay_over = seen->stop_sent = seen->stop_expired = false;
	seen->exit_code = -1;
	seen->restarts = record->restarts;
	seen->leftovers = true;
	actor->kill_sent = actor->begun = false;
	retry_stop(&actor->timer);
}

/* A run that had no process is none: the start is still to be carried out. */
static void take_back_run(struct instance_actor *actor)
{
	if (actor->record.start_seq > 0)
		actor->record.start_seq--;
	actor->seen.start_seq = actor->record.start_seq;
	actor->record.ended = true;
}

/* False: the keeper has just died; the next one will be asked. */
static bool do_spawn(struct instance_actor *actor, struct keeper_client *keeper)
{
	const struct agent_options *options = actor->agent->options;
	AUTO(free) char *oci_root = mem_printf("%s/oci", options->run);
	AUTO(free) char *bundle = agent_run_path(actor->agent, actor->uid, NULL);
	AUTO(free) char *pid_file = agent_run_path(actor->agent, actor->uid, "pid");
	AUTO(free) char *log = agent_state_path(actor->agent, actor->uid, "log");
	char *argv[] = {
		(char *) options->oci, "--root", oci_root,      "create", "--bundle", bundle,
		"--pid-file",          pid_file, "--rootfs-fd", "3",      actor->uid, NULL
	};
	char *env[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	int as = ROOTFS_FD_IN_CHILD;
	char job[KEEPER_JOB_MAX + 1];
	struct error err = {};

	job_of(actor, job);
	struct keeper_spawn spawn = { .job = job,
				      .mode = KEEPER_PID_FILE,
				      .stdio = KEEPER_LOGGED,
				      .argv = argv,
				      .env = env,
				      .cwd = bundle,
				      .pid_file = pid_file,
				      .log = log,
				      .owner_uid = actor->owner,
				      .owner_gid = actor->owner,
				      .fd_count = 1,
				      .fds = &actor->rootfs_fd,
				      .fds_as = &as };
	int r = keeper_client_spawn(keeper, &spawn, &err);
	if (r == -EPIPE || r == -ECONNRESET || r == -ENOTCONN)
		return false;
	if (r < 0) {
		doom(actor, err.msg);
		actor->seen.run = PLAN_RUN_ENDED;
	} else {
		actor->seen.run = PLAN_RUN_STARTING;
		actor->listed = true;
		retry_in(&actor->timer, actor->agent->event, CREATE_TIMEOUT_MS);
	}
	fd_close(actor->rootfs_fd);
	actor->rootfs_fd = -1;
	return true;
}

static void do_signal(struct instance_actor *actor, struct keeper_client *keeper)
{
	uint32_t timeout_s = instance_stop_timeout_s(spec_of(actor));
	const char *name = spec_of(actor)->stop_signal;
	int number = name ? signal_parse(name) : SIGTERM;
	char job[KEEPER_JOB_MAX + 1];

	job_of(actor, job);
	actor->seen.stop_sent = true;
	if (timeout_s == 0) {
		actor->seen.stop_expired = true;
		return;
	}
	log_debug("instance %s: stopping, %u s of grace", actor->uid, timeout_s);
	keeper_client_signal(keeper, job, number > 0 ? number : SIGTERM);
	retry_in(&actor->timer, actor->agent->event, (uint64_t) timeout_s * 1000);
}

static void do_kill(struct instance_actor *actor, struct keeper_client *keeper)
{
	char job[KEEPER_JOB_MAX + 1];

	job_of(actor, job);
	actor->kill_sent = actor->seen.stop_sent = true;
	keeper_client_signal(keeper, job, SIGKILL);
}

static void store_record(struct instance_actor *actor)
{
	AUTO(free) char *path = agent_state_path(actor->agent, actor->uid, "node.json");
	struct error err = {};

	/* Without a folder there has never been a run; brumed will say again what it wants. */
	if (actor->has_slot && record_store(path, &actor->record, &err) < 0)
		log_error("instance %s: %s", actor->uid, err.msg);
}

static void do_settle(struct instance_actor *actor, const char *failure)
{
	actor->record.start_seq = actor->seen.start_seq = spec_of(actor)->start_seq;
	actor->record.ended = true;
	actor->record.failed = actor->seen.failed = failure != NULL;
	actor->record.exited = actor->seen.exited = actor->seen.rebooted = false;
	set_error(actor, failure);
	store_record(actor);
}

/* -- steps on workers ------------------------------------------------------------------------- */

static void after_prepare(struct instance_actor *actor, struct instance_task *task)
{
	if (task->result < 0) {
		doom(actor, task->err.msg);
		actor->seen.run = PLAN_RUN_ENDED;
		return;
	}
	memcpy(actor->record.image_digest, task->record.image_digest,
	       sizeof(actor->record.image_digest));
	actor->has_image = true;
	actor->rootfs_fd = TAKE_FD(task->rootfs_fd);
	actor->owner = task->owner;
}

static void after_attach(struct instance_actor *actor, struct instance_task *task)
{
	/* What already runs goes on, whatever became of its network. */
	if (task->result < 0 && actor->seen.run == PLAN_RUN_CREATED)
		doom(actor, task->err.msg);
	else if (task->result < 0)
		log_error("instance %s: network: %s", actor->uid, task->err.msg);
	actor->seen.attached = true;
}

static void after_start(struct instance_actor *actor, struct instance_task *task)
{
	if (task->result < 0) {
		doom(actor, task->err.msg);
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
	set_error(actor, task->record.error);
	if (actor->listed && keeper) {
		job_of(actor, job);
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

static void done(void *data)
{
	struct instance_actor *actor = data;
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
		break;
	case PLAN_START:
		after_start(actor, task);
		break;
	case PLAN_CLEAN:
		after_clean(actor, task);
		break;
	case PLAN_REMOVE:
		after_remove(actor, task);
		break;
	default:
		after_pause_or_resume(actor, task);
	}
	instance_task_free(task);
	want_unref(actor->task_want);
	actor->task_want = NULL;
	advance(actor);
}

/* What the run was goes on record before anything of it is taken away. */
static void end_record(struct instance_actor *actor)
{
	struct record *record = &actor->record;

	record->ended = true;
	record->failed = actor->seen.failed;
	record->exited = actor->seen.exited;
	if (record->finished_ms == 0 && actor->begun)
		record->finished_ms = clock_realtime_ms(clock_system());
	if (record->exited && record->started_ms > 0 &&
	    record->finished_ms - record->started_ms >= STEADY_MS)
		record->restarts = 0;
	actor->seen.restarts = record->restarts;
}

static void submit(struct instance_actor *actor, enum plan_step step, const char *image_uid,
		   const struct network_args *network)
{
	struct instance_task *task = mem_new0(struct instance_task);

	if (step == PLAN_PREPARE)
		begin_run(actor);
	else if (step == PLAN_CLEAN)
		end_record(actor);
	task->agent = actor->agent;
	task->step = step;
	memcpy(task->uid, actor->uid, sizeof(task->uid));
	memcpy(task->image_uid, image_uid, sizeof(task->image_uid));
	task->networked = actor->want && spec_of(actor)->network_uid[0];
	task->network = *network;
	task->pid = actor->pid;
	task->killed = actor->begun && actor->record.exit_code == SIGNAL_EXIT_BASE + SIGKILL &&
		       !actor->kill_sent;
	task->rootfs_fd = -1;
	record_copy(&task->record, &actor->record);
	if (actor->want) {
		actor->want->refs++;
		actor->task_want = actor->want;
		task->instance = actor->want->instance;
	}
	fd_close(actor->rootfs_fd);
	actor->rootfs_fd = -1;
	actor->task = task;
	pool_submit(actor->agent->pool, work, done, actor);
}

/* True when the step was carried out here and the next one can be looked for. */
static bool carry_out(struct instance_actor *actor, enum plan_step step, const char *why,
		      const char *image_uid, const struct network_args *network)
{
	struct keeper_client *keeper = agent_keeper(actor->agent);

	switch (step) {
	case PLAN_NONE:
		return false;
	case PLAN_SPAWN:
		return do_spawn(actor, keeper);
	case PLAN_SIGNAL:
		do_signal(actor, keeper);
		return true;
	case PLAN_KILL:
		if (!actor->kill_sent)
			do_kill(actor, keeper);
		return false;
	case PLAN_SETTLE:
		do_settle(actor, NULL);
		return true;
	case PLAN_GIVE_UP:
		why = why ? why : "what it needs has failed";
		if (actor->seen.run == PLAN_RUN_NONE)
			do_settle(actor, why);
		else
			doom(actor, why);
		return true;
	default:
		submit(actor, step, image_uid, network);
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

static void advance(struct instance_actor *actor)
{
	struct plan_want want = want_of(actor);
	char image_uid[UID_SIZE] = "";
	struct network_args network = {};
	enum plan_step step;

	/* Nobody has said yet whether it is wanted. */
	if (!actor->want && !actor->agent->complete)
		return;
	do {
		const char *why = look_around(actor, image_uid, &network);

		if (actor->task || retry_waiting(&actor->again))
			break;
		step = plan_next(&want, &actor->seen);
		if (step != PLAN_NONE)
			log_debug("instance %s: %s", actor->uid, plan_step_name(step));
		if (!carry_out(actor, step, why, image_uid, &network))
			break;
	} while (true);
	plan_restart(actor, &want);
	tell(actor);
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
	struct instance_actor *actor = find_or_new(agent, instance->meta.uid);
	want_unref(actor->want);
	actor->want = mem_new0(struct want);
	actor->want->refs = 1;
	actor->want->instance = instance;
	actor->session = agent->session;
	retry_stop(&actor->again);
	/* A shorter grace period than the one that runs: `stop` and then `delete --force`. */
	if (actor->seen.stop_sent && instance_stop_timeout_s(&instance->spec) == 0)
		actor->seen.stop_expired = true;
	advance(actor);
}

static void unwant(struct instance_actor *actor)
{
	want_unref(actor->want);
	actor->want = NULL;
	retry_stop(&actor->again);
	advance(actor);
}

void instance_actor_forget(struct agent *agent, const char *uid)
{
	struct instance_actor *actor = find(agent, uid);

	if (actor)
		unwant(actor);
}

void instance_actor_found(struct agent *agent, const char *uid)
{
	if (!uid_is_valid(uid))
		return;
	/* Something of it is there, perhaps only a cgroup: cleaning and removing look everywhere.
	 */
	struct instance_actor *actor = find_or_new(agent, uid);
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
		advance(actor);
}

static int64_t exit_code_of(const struct keeper_msg *msg)
{
	switch (msg->exit_kind) {
	case KEEPER_EXIT_CODE:
		return msg->exit_value;
	case KEEPER_EXIT_SIGNAL:
		return SIGNAL_EXIT_BASE + msg->exit_value;
	default:
		return -1;
	}
}

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
	if (actor->seen.run == PLAN_RUN_STARTING ||
	    instance_read_started(actor->agent, actor->uid, &started_ms, &paused) < 0) {
		actor->seen.run = PLAN_RUN_CREATED;
		return;
	}
	/* It ran before this agent did. */
	actor->record.started_ms = started_ms;
	actor->seen.run = paused ? PLAN_RUN_PAUSED : PLAN_RUN_RUNNING;
}

static void on_exited(struct instance_actor *actor, const struct keeper_msg *msg)
{
	bool starting = actor->task && actor->task->step == PLAN_START;
	int64_t started_ms = 0;
	bool paused, started;

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
	}
	actor->begun = true;
	actor->pid = 0;
	actor->seen.run = PLAN_RUN_ENDED;
	actor->record.exit_code = actor->seen.exit_code = exit_code_of(msg);
	actor->record.finished_ms = clock_realtime_ms(clock_system());
	retry_stop(&actor->timer);
	if (started)
		actor->seen.exited = !actor->seen.stop_sent;
	else if (!actor->seen.stop_sent && !actor->seen.doomed)
		doom(actor, "it ended before it was started");
	log_info("instance %s: ended with %lld", actor->uid, (long long) actor->record.exit_code);
}

static void on_failed(struct instance_actor *actor, const struct keeper_msg *msg)
{
	const char *message = msg->message ? msg->message : "brume-oci failed";

	if (strncmp(message, "brume-oci: ", 11) == 0)
		message += 11;
	if (!actor->record.ended)
		doom(actor, message);
	actor->seen.run = PLAN_RUN_ENDED;
}

void instance_actor_keeper_event(struct agent *agent, const struct keeper_msg *msg)
{
	struct instance_actor *actor;

	if (!uid_is_valid(msg->job + 2))
		return;
	actor = find_or_new(agent, msg->job + 2);
	actor->listed = true;
	switch (msg->type) {
	case KEEPER_STARTING:
		actor->seen.run = PLAN_RUN_STARTING;
		break;
	case KEEPER_SPAWNED:
		on_spawned(actor, msg);
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
		advance(actor);
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
		return;
	case PLAN_RUN_STARTING:
	case PLAN_RUN_CREATED:
		take_back_run(actor);
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
			take_back_run(actor);
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
		advance(actor);
	}
}

void instance_actors_keeper_lost(struct agent *agent)
{
	struct instance_actor *actor, *next;

	HASH_ITER(hh, agent->instances, actor, next)
	actor->listed = actor->kill_sent = false;
}

int instance_pid(struct agent *agent, const char *uid, pid_t *ret)
{
	struct instance_actor *actor = find(agent, uid);

	if (!actor || (actor->seen.run != PLAN_RUN_RUNNING && actor->seen.run != PLAN_RUN_PAUSED))
		return -ESRCH;
	*ret = actor->pid;
	return 0;
}

bool instance_is_alive(struct agent *agent, const char *uid)
{
	struct instance_actor *actor = find(agent, uid);

	if (!actor || !actor->want)
		return false;
	struct plan_want want = want_of(actor);
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

void instance_actors_free(struct agent *agent)
{
	struct instance_actor *actor, *next;

	HASH_ITER(hh, agent->instances, actor, next)
	actor_free(actor);
}
