#pragma once
/*
 * agent/record.h - STATE/instances/UID/node.json: what of an instance must outlive a reboot.
 *
 * Written before a run begins and when it has ended.  Everything else is read from the keeper and
 * the run folder.  Used by agent/instance_*.c; blocking, for any thread.
 */
#include <stdbool.h>
#include <stdint.h>

#include "agent/plan.h"
#include "base/cleanup.h"
#include "base/clock.h"

struct error;

enum { RECORD_DIGEST_SIZE = 136 };

struct record {
	uint32_t slot;
	uint64_t start_seq; /* of the last run, or carried out without one */
	uint32_t restarts;
	bool ended;          /* the run of start_seq is over, or never began and never will */
	bool failed;         /* it could not be started; `error` says why */
	bool exited;         /* it ended by itself */
	enum plan_sick sick; /* its health check has ended it */
	int64_t exit_code;   /* -1: not known */
	int64_t started_ms, finished_ms;
	char run_id[UID_SIZE]; /* of the run folder in which it was started: new after a reboot */
	char image_digest[RECORD_DIGEST_SIZE];
	char *error;
};

void record_init(struct record *record);

/* -ENOENT when there is none. */
int record_load(const char *path, struct record *ret, struct error *err);
int record_store(const char *path, const struct record *record, struct error *err);

void record_copy(struct record *to, const struct record *from); /* `to` is overwritten */
void record_done(struct record *record);
static inline void record_done_autop(struct record *record)
{
	record_done(record);
}
