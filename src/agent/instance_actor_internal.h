#pragma once
/*
 * agent/instance_actor_internal.h - how the files of one instance's actor work together.
 *
 *	instance_actor.c	found, wanted, planned: the actor and its loop
 *	instance_run.c		the present run: begun, stopped, on record
 *	instance_work.c		steps on workers, and what follows from them
 *	instance_job.c		what the keeper says
 *	instance_health.c	checks of the present run, and what follows from them
 *	instance_machine.c	the machine of the present run, when it is one
 *	instance_report.c	the status that is told
 *	instance_trace.c	what a trace of its packets has to know
 *
 * Private to these files.  All of it belongs to the loop's thread.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uthash.h>

#include "agent/agent_internal.h"
#include "agent/image_actor.h"
#include "agent/instance_actor.h"
#include "agent/instance_task.h"
#include "agent/retry.h"

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
	bool reaped;    /* and the keeper has seen its end */
	bool kill_sent;
	pid_t pid;
	int rootfs_fd;
	struct grants *grants;          /* of the node's policy, until the run is spawned */
	struct instance_vm_fds *vm_fds; /* of the monitor, likewise */
	uint32_t owner;
	struct instance_task *task;
	struct want *task_want;
	struct instance_limits limits; /* in force in the present run */
	bool limits_known;
	struct instance_limits refused; /* what could not be made to be in force */
	char *update_error;             /* why; NULL: nothing was refused */
	char *ports_error;              /* why one of its ports is not there */
	bool ports_stale;               /* a network was away while a step was under way */
	char way[INSTANCE_WAY_SIZE];    /* out, as it was attached */
	struct retry timer;             /* the end of a grace period, or of a back-off */
	struct retry again;             /* a step that failed is tried again */
	uint64_t told;
	struct instance_health *health;   /* of the present run; NULL: it does not run */
	struct instance_machine *machine; /* likewise; NULL: it is none */
	bool untold;                      /* its guest has to be told of its interfaces yet */
	struct instance_telling *telling; /* and is being told; as long as the task */
	int64_t monitor_code;             /* what the machine's monitor ended with */
	bool crashed;                     /* the machine ended without saying how its command did */
};

/* ---- instance_actor.c */

void actor_want_unref(struct want *want);
struct instance_actor *actor_find(struct agent *agent, const char *uid);
struct instance_actor *actor_find_or_new(struct agent *agent, const char *uid);
struct plan_want actor_want(const struct instance_actor *actor);
const struct instance_spec *actor_spec(const struct instance_actor *actor);

/* Takes the next steps until there is none, or one is on its way.  May free the actor. */
void actor_advance(struct instance_actor *actor);

/* ---- instance_run.c */

void actor_set_error(struct instance_actor *actor, const char *message);
void run_job(const struct instance_actor *actor, char ret[KEEPER_JOB_MAX + 1]);
void run_doom(struct instance_actor *actor, const char *message);
void run_begin(struct instance_actor *actor);
void run_take_back(struct instance_actor *actor);
bool run_spawn(struct instance_actor *actor, struct keeper_client *keeper);
/* What the present run was to be spawned with. */
void run_close_fds(struct instance_actor *actor);
void run_signal(struct instance_actor *actor, struct keeper_client *keeper);
void run_kill(struct instance_actor *actor, struct keeper_client *keeper);

/* start_seq is carried out without a run; `failure` says why it cannot be one, or is NULL. */
void run_settle(struct instance_actor *actor, const char *failure);
void run_end(struct instance_actor *actor);

/* ---- instance_work.c */

void actor_submit(struct instance_actor *actor, enum plan_step step, const char *image_uid,
		  const struct instance_networks *networks);

/* ---- instance_health.c */

/* Checks begin, rest and end with the run.  May find that the run has to end. */
void instance_health_update(struct instance_actor *actor);

/* What the last agent knew of a run that was found dead. */
void instance_health_recall(struct instance_actor *actor);

/* To be told; borrowed, NULL when there is no check. */
const struct health_status *instance_health_status(const struct instance_actor *actor);
void instance_health_free(struct instance_health *health);

/* ---- instance_report.c */

void actor_tell(struct instance_actor *actor);
