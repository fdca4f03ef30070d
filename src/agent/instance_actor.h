#pragma once
/*
 * agent/instance_actor.h - one instance of the node: carries out what plan.h decides.
 *
 * Used by agent/ on the loop's thread.  Steps that block run on workers (instance_task.h), one at a
 * time per instance; jobs are the keeper's.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/clock.h"
#include "base/json.h"
#include "codec/keeper_wire.h"

struct agent;
struct instance_actor;

void instance_actor_assign(struct agent *agent, const json_t *resource);
void instance_actor_forget(struct agent *agent, const char *uid);

/* An instance that has folders or other things on this node; nothing is removed yet. */
void instance_actor_found(struct agent *agent, const char *uid);

void instance_actors_complete(struct agent *agent);
void instance_actors_tell(struct agent *agent);
void instance_actors_wake(struct agent *agent);

/* Events of jobs i-UID. */
void instance_actor_keeper_event(struct agent *agent, const struct keeper_msg *msg);
void instance_actors_keeper_listed(struct agent *agent);
void instance_actors_keeper_lost(struct agent *agent);

/* The init process of a running (or paused) instance; -ESRCH when it does not run. */
int instance_pid(struct agent *agent, const char *uid, pid_t *ret);

/*
 * The way into the guest of a virtual machine: 1.  0: it is a container (or not here).  -EBUSY and
 * -ESRCH: it cannot answer now.  -EOPNOTSUPP: it never will, it booted a system of its own.
 */
struct error;
struct guest;
int instance_guest(struct agent *agent, const char *uid, struct guest **ret, struct error *err);

/* Does the monitor of its machine run and answer?  That of one that is paused stands still. */
bool instance_monitor_answers(struct agent *agent, const char *uid);

/* Where it is in its network, to be reached from the node; NULL: nowhere. */
const char *instance_address(struct agent *agent, const char *uid);

/* Calls `fn` for every instance that runs (or is paused). */
struct instance;
typedef void (*instance_running_fn)(const struct instance *instance, pid_t pid, void *data);
void instance_actors_each_running(struct agent *agent, instance_running_fn fn, void *data);

/* What a network is made of was away: the ports of what runs are looked at again. */
void instance_actors_reattach(struct agent *agent, const char *network_uid);

/* The same where a port has limits: something of a queue was taken away. */
void instance_actors_relimit(struct agent *agent);

/* The same for every instance that is wanted. */
typedef void (*instance_fn)(const struct instance *instance, bool runs, void *data);
void instance_actors_each(struct agent *agent, instance_fn fn, void *data);

/* How it can be attached to.  -ESRCH when nobody wants it here. */
struct instance_stdio {
	bool running, tty, has_input, once;
	bool machine; /* its terminal, if any, is the guest's */
};
int instance_find_stdio(struct agent *agent, const char *uid, struct instance_stdio *ret);

/* Will it write more to its log?  Also true while it is about to start again. */
bool instance_is_alive(struct agent *agent, const char *uid);

/* The uids that are there or wanted, as a strv. */
char **instance_actors_list(struct agent *agent);

/* The uids of all their ports, likewise. */
char **instance_actors_list_ports(struct agent *agent);

void instance_actors_free(struct agent *agent);
