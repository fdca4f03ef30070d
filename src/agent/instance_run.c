#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "agent/grant.h"
#include "agent/instance_actor_internal.h"
#include "agent/instance_machine.h"
#include "agent/instance_vm.h"
#include "agent/settings.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/signame.h"
#include "model/member.h"

/* The present run of an instance: how it begins, is stopped and goes on record. */

enum {
	ROOTFS_FD_IN_CHILD = 3,
	CREATE_TIMEOUT_MS = 60 * 1000,
	STEADY_MS = 10 * 1000, /* a run this long makes the next restart a first one */
};

void actor_set_error(struct instance_actor *actor, const char *message)
{
	mem_replace(&actor->record.error, message);
}

void run_job(const struct instance_actor *actor, char ret[KEEPER_JOB_MAX + 1])
{
	snprintf(ret, KEEPER_JOB_MAX + 1, "i-%s", actor->uid);
}

/* The run cannot become what is wanted. */
void run_doom(struct instance_actor *actor, const char *message)
{
	log_warning("instance %s: cannot start: %s", actor->uid, message);
	actor_set_error(actor, message);
	actor->seen.failed = true;
	actor->seen.doomed = true;
	actor->seen.exited = false;
}

/* A new run begins: everything about the last one is forgotten. */
void run_begin(struct instance_actor *actor)
{
	struct plan_want want = actor_want(actor);
	struct record *record = &actor->record;
	struct plan_seen *seen = &actor->seen;

	if (!actor->has_slot) {
		record->slot = agent_slot_take(actor->agent);
		actor->has_slot = true;
	}
	record->restarts = want.start_seq > seen->start_seq ? 0 : record->restarts + 1;
	record->start_seq = seen->start_seq = want.start_seq;
	record->ended = record->failed = record->exited = false;
	record->sick = seen->sick = PLAN_SICK_NO;
	record->exit_code = -1;
	record->started_ms = record->finished_ms = 0;
	actor_set_error(actor, NULL);
	actor->limits_known = false;
	mem_replace(&actor->update_error, NULL);
	mem_replace(&actor->ports_error, NULL);
	memcpy(record->run_id, actor->agent->run_id, sizeof(record->run_id));
	seen->run = PLAN_RUN_PREPARED;
	seen->attached = seen->doomed = seen->failed = seen->exited = seen->rebooted = false;
	seen->delay_over = seen->stop_sent = seen->stop_expired = false;
	seen->exit_code = -1;
	seen->restarts = record->restarts;
	seen->leftovers = true;
	actor->kill_sent = actor->begun = actor->reaped = actor->crashed = false;
	retry_stop(&actor->timer);
}

/* A run that had no process is none: the start is still to be carried out. */
void run_take_back(struct instance_actor *actor)
{
	if (actor->record.start_seq > 0)
		actor->record.start_seq--;
	actor->seen.start_seq = actor->record.start_seq;
	actor->record.ended = true;
}

void run_close_fds(struct instance_actor *actor)
{
	fd_close(actor->rootfs_fd);
	actor->rootfs_fd = -1;
	instance_vm_fds_free(actor->vm_fds);
	actor->vm_fds = NULL;
	grants_free(actor->grants);
	actor->grants = NULL;
}

/*
 * The root file system, and beside it what the node's policy gave, or what the monitor of a machine
 * gets; that is handed on to the program, as the first descriptors.
 */
static unsigned int list_fds(const struct instance_actor *actor, int *fds, int *as)
{
	const struct instance_vm_fds *vm = actor->vm_fds;
	unsigned int count = vm ? vm->count : 0;

	fds[0] = actor->rootfs_fd;
	as[0] = ROOTFS_FD_IN_CHILD + (int) count;
	for (unsigned int i = 0; i < count; i++) {
		fds[1 + i] = vm->fds[i];
		as[1 + i] = ROOTFS_FD_IN_CHILD + (int) i;
	}
	return 1 + count + grants_list(actor->grants, fds + 1 + count, as + 1 + count);
}

static enum keeper_input input_of(const struct stdio_options *stdio, bool machine)
{
	if (stdio->tty)
		return machine ? KEEPER_INPUT_FIFO : KEEPER_INPUT_TERMINAL;
	return stdio->stdin_mode != STDIN_NONE ? KEEPER_INPUT_FIFO : KEEPER_INPUT_NONE;
}

/* False: the keeper has just died; the next one will be asked. */
bool run_spawn(struct instance_actor *actor, struct keeper_client *keeper)
{
	const struct agent_options *options = actor->agent->options;
	AUTO(free) char *oci_root = mem_printf("%s/oci", options->run);
	AUTO(free) char *bundle = agent_run_path(actor->agent, actor->uid, NULL);
	AUTO(free) char *pid_file = agent_run_path(actor->agent, actor->uid, "pid");
	AUTO(free) char *log = agent_state_path(actor->agent, actor->uid, "log");
	const struct stdio_options *stdio = &actor_spec(actor)->stdio;
	/* A guest has a terminal of its own; to us its bytes are as any others. */
	bool machine = actor_spec(actor)->type == INSTANCE_VM;
	bool terminal = stdio->tty && !machine;
	char console[] = "--console-fd=63";
	char rootfs_fd[16], preserve[16];
	char *argv[] = { (char *) options->oci,
			 "--root",
			 oci_root,
			 "create",
			 "--bundle",
			 bundle,
			 "--pid-file",
			 pid_file,
			 "--rootfs-fd",
			 rootfs_fd,
			 "--preserve-fds",
			 preserve,
			 terminal ? console : actor->uid,
			 terminal ? actor->uid : NULL,
			 NULL };
	_Static_assert(KEEPER_CONSOLE_FD == 63, "what --console-fd says");
	char *env[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	int fds[KEEPER_FDS_MAX], as[KEEPER_FDS_MAX];
	unsigned int fd_count = list_fds(actor, fds, as);
	char job[KEEPER_JOB_MAX + 1];
	struct error err = {};

	snprintf(preserve, sizeof(preserve), "%u", actor->vm_fds ? actor->vm_fds->count : 0);
	snprintf(rootfs_fd, sizeof(rootfs_fd), "%d", as[0]);
	run_job(actor, job);
	struct keeper_spawn spawn = { .job = job,
				      .mode = KEEPER_PID_FILE,
				      .stdio = KEEPER_LOGGED,
				      .argv = argv,
				      .env = env,
				      .cwd = bundle,
				      .pid_file = pid_file,
				      .log = log,
				      .log_max_bytes = stdio->log_max_bytes,
				      .log_max_files = stdio->log_max_files,
				      .input = input_of(stdio, machine),
				      .owner_uid = actor->owner,
				      .owner_gid = actor->owner,
				      .fd_count = fd_count,
				      .fds = fds,
				      .fds_as = as };
	int r = keeper_client_spawn(keeper, &spawn, &err);
	if (r == -EPIPE || r == -ECONNRESET || r == -ENOTCONN)
		return false;
	if (r < 0) {
		run_doom(actor, err.msg);
		actor->seen.run = PLAN_RUN_ENDED;
	} else {
		actor->seen.run = PLAN_RUN_STARTING;
		actor->listed = true;
		retry_in(&actor->timer, actor->agent->event, CREATE_TIMEOUT_MS);
	}
	run_close_fds(actor);
	return true;
}

void run_signal(struct instance_actor *actor, struct keeper_client *keeper)
{
	uint32_t timeout_s = instance_stop_timeout_s(actor_spec(actor));
	const char *name = actor_spec(actor)->stop_signal;
	int number = name && name[0] ? signame_number(name) : 0;
	AUTO(free) char *path = agent_run_path(actor->agent, actor->uid, "settings.json");
	AUTO(settings_done) struct settings settings = {};
	char job[KEEPER_JOB_MAX + 1];

	run_job(actor, job);
	actor->seen.stop_sent = true;
	if (timeout_s == 0) {
		actor->seen.stop_expired = true;
		return;
	}
	log_debug("instance %s: stopping, %u s of grace", actor->uid, timeout_s);
	/* The spec's may have changed since the run began; the image's is in the settings. */
	(void) settings_read(path, &settings, NULL);
	number = number > 0 ? number : settings.stop_signal;
	if (actor->machine)
		instance_machine_signal(actor->machine, number);
	else
		keeper_client_signal(keeper, job, number);
	retry_in(&actor->timer, actor->agent->event, (uint64_t) timeout_s * 1000);
}

void run_kill(struct instance_actor *actor, struct keeper_client *keeper)
{
	char job[KEEPER_JOB_MAX + 1];

	actor->seen.stop_sent = true;
	if (instance_machine_halts(actor))
		return;
	run_job(actor, job);
	actor->kill_sent = true;
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

void run_settle(struct instance_actor *actor, const char *failure)
{
	actor->record.start_seq = actor->seen.start_seq = actor_spec(actor)->start_seq;
	actor->record.ended = true;
	actor->record.failed = actor->seen.failed = failure != NULL;
	actor->record.exited = actor->seen.exited = actor->seen.rebooted = false;
	actor->record.sick = actor->seen.sick = PLAN_SICK_NO;
	if (failure)
		actor->record.exit_code = actor->seen.exit_code = -1;
	actor_set_error(actor, failure);
	store_record(actor);
}

/* What the run was goes on record before anything of it is taken away. */
void run_end(struct instance_actor *actor)
{
	struct record *record = &actor->record;

	record->ended = true;
	record->failed = actor->seen.failed;
	record->exited = actor->seen.exited;
	record->sick = actor->seen.sick;
	if (record->finished_ms == 0 && actor->begun)
		record->finished_ms = clock_realtime_ms(clock_system());
	if ((record->exited || record->sick) && record->started_ms > 0 &&
	    record->finished_ms - record->started_ms >= STEADY_MS)
		record->restarts = 0;
	actor->seen.restarts = record->restarts;
}
