#pragma once
/*
 * agent/probe.h - one check of one instance, from its start to its result.
 *
 * A command runs in the instance as `brume exec` does.  HTTP and TCP are brume-probe's: the agent
 * reads no bytes of a network, only an exit code and a line.  Both are jobs of the keeper, named
 * h-...; those of an earlier agent are ended and forgotten.  Thread: the loop's.
 */
#include <stdint.h>
#include <sys/types.h>

#include "codec/keeper_wire.h"
#include "model/health.h"

struct agent;
struct error;
struct probe;

enum {
	PROBE_BROKEN = -1, /* it could not be run, or took too long */
	PROBE_LOST = -2,   /* the keeper has ended meanwhile: nobody knows */
};

struct probe_result {
	int exit_code; /* 0: it passed */
	char *output;  /* HEALTH_OUTPUT_MAX_BYTES of valid UTF-8; the receiver frees it */
};

typedef void (*probe_done_fn)(void *data, const struct probe_result *result);

/* How many are under way on this node. */
unsigned int probe_count(const struct agent *agent);

/*
 * `done` is called once, from the loop, unless the probe is cancelled before; the probe is gone
 * then.  The check is borrowed until then.
 */
int probe_start(struct agent *agent, const char *uid, pid_t pid, const struct health_check *check,
		probe_done_fn done, void *data, struct probe **ret, struct error *err);

/* What runs is killed; `done` is not called. */
void probe_cancel(struct probe *probe);

void probe_keeper_event(struct agent *agent, const struct keeper_msg *msg);
void probe_keeper_lost(struct agent *agent);
void probes_free(struct agent *agent);
