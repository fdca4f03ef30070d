#pragma once
/*
 * agent/plan.h - what an instance's actor does next, as a pure function.
 *
 * plan_next() sees what is wanted and what is there, and names one step; plan_state() names the
 * state that the status tells.  Time and the outside world come as arguments, so every situation,
 * also the impossible ones after a crash, is tested without a node.  Used by agent/instance_*.c.
 */
#include <stdbool.h>
#include <stdint.h>

#include "model/instance.h"

/* Where the present run of an instance is. */
enum plan_run {
	PLAN_RUN_NONE,     /* nothing of a run is there */
	PLAN_RUN_PREPARED, /* bundle and root file system are ready, the keeper has not been asked
			    */
	PLAN_RUN_STARTING, /* brume-oci create is at work */
	PLAN_RUN_CREATED,  /* the init process waits for the start */
	PLAN_RUN_RUNNING,
	PLAN_RUN_PAUSED,
	PLAN_RUN_ENDED, /* no process any more, its things are still there */
};

/* What a run needs from another actor. */
enum plan_need { PLAN_NEED_WAIT, PLAN_NEED_WORKING, PLAN_NEED_READY, PLAN_NEED_FAILED };

/* Its health check has failed, and the run is to end because of that. */
enum plan_sick { PLAN_SICK_NO, PLAN_SICK_RESTART, PLAN_SICK_STOP };

struct plan_want {
	bool wanted;   /* false: take everything away */
	bool graceful; /* when it is taken away: the processes may end by themselves first */
	enum instance_target target;
	uint64_t start_seq;
	enum restart_policy policy;
	uint32_t max_retries;
};

struct plan_seen {
	bool keeper; /* it can be asked */
	enum plan_need image, network;
	enum plan_run run;
	bool attached;      /* its ports were made as wanted, and its present name is known there */
	uint64_t start_seq; /* carried out, or being carried out by this run */
	bool limited;       /* the limits that are wanted are in force */
	bool limits_refused; /* and cannot be */
	bool booting;        /* a machine runs, its command does not yet */
	bool doomed;         /* this run cannot become what is wanted: it must end */
	bool failed;         /* the last attempt to start did not succeed */
	bool exited;         /* the last run ended by itself */
	bool rebooted;       /* the last run ended with the machine */
	int64_t exit_code;   /* of the last run; -1 = not known */
	uint32_t restarts;   /* by policy, since the last start that was asked for */
	bool delay_over;     /* the back-off before a restart has passed */
	bool stop_sent;      /* the stop signal is on its way */
	bool stop_expired;   /* and had its time; while STARTING: so did brume-oci create */
	enum plan_sick sick;
	bool leftovers; /* folders of the instance are there */
};

enum plan_step {
	PLAN_NONE,    /* at rest, or waiting for an event */
	PLAN_PREPARE, /* slot, folders, root file system, bundle */
	PLAN_SPAWN,   /* ask the keeper to run brume-oci create */
	PLAN_ATTACH,  /* network and published ports */
	PLAN_START,   /* let the init process go */
	PLAN_PAUSE,
	PLAN_RESUME,
	PLAN_LIMIT,  /* change the limits of what runs */
	PLAN_SIGNAL, /* ask it to stop */
	PLAN_KILL,
	PLAN_CLEAN,   /* take the things of the ended run away */
	PLAN_GIVE_UP, /* the start fails, because what it needs has failed */
	PLAN_SETTLE,  /* record that start_seq is carried out without a run */
	PLAN_REMOVE,  /* take the instance's own folders away */
};

const char *plan_step_name(enum plan_step step);

enum plan_step plan_next(const struct plan_want *want, const struct plan_seen *seen);

/* Will the policy start it again, now or after the delay? */
bool plan_restarts(const struct plan_want *want, const struct plan_seen *seen);

/* Milliseconds before the n-th restart in a row: 100 ms, doubling, 1 minute at most. */
uint32_t plan_restart_delay_ms(uint32_t restarts);

/* The state to tell. */
enum instance_state plan_state(const struct plan_want *want, const struct plan_seen *seen);

/* What is wanted is there (or has failed for good): the generation counts as carried out. */
bool plan_settled(const struct plan_want *want, const struct plan_seen *seen);
