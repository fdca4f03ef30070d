#pragma once
/*
 * agent/instance_machine.h - the machine of the present run of an instance of type "vm".
 *
 * What is known about it stands in RUN/instances/UID/machine.json, and `booted` beside it once its
 * command runs, so the next agent knows it too.  Private to agent/instance_*.c, except
 * instance_guest().  Thread: the loop's, where it does not say otherwise.
 */
#include "agent/instance_actor_internal.h"
#include "machine/machine.h"

struct guest;
struct instance_machine;

/* What of a run is written with its bundle; for worker threads too. */
struct machine_record {
	enum machine_backend backend;
	struct vm_status status;
};
int machine_record_write(const struct agent *agent, const char *uid,
			 const struct machine_record *record, struct error *err);
/* -ENOENT: the run is no machine's. */
int machine_record_read(const struct agent *agent, const char *uid, struct machine_record *ret,
			struct error *err);
void machine_record_done(struct machine_record *record);
static inline void machine_record_done_autop(struct machine_record *record)
{
	machine_record_done(record);
}

/* Begins and ends with the run, like the health checks. */
void instance_machine_update(struct instance_actor *actor);
void instance_machine_free(struct instance_machine *machine);

/* To be told; borrowed, NULL when the run is no machine's. */
const struct vm_status *instance_machine_status(const struct instance_actor *actor);

/* A signal for the command. */
void instance_machine_signal(struct instance_machine *machine, int number);

/*
 * Before its monitor is killed, which is like pulling a plug, the guest kills the command, writes
 * its disk and turns off.  True: that is under way, and actor->timer says when it takes too long.
 */
bool instance_machine_halts(struct instance_actor *actor);

/*
 * The monitor has ended with *exit_code.  True when the guest has told how its command did: that is
 * in *exit_code then, or *ret_error (the caller frees) says why it could not be run.  False: the
 * machine has crashed, or was killed.
 */
bool instance_machine_ended(const struct instance_actor *actor, int64_t *exit_code,
			    char **ret_error);

/* What the console said last, as one line in `text`; for worker threads. */
char *machine_console(const struct agent *agent, const char *uid, enum machine_backend backend,
		      const char *text);
