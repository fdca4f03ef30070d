#pragma once
/*
 * agent/freeze.h - an instance stands still while its files are read, and goes on whatever happens.
 *
 * RUN/instances/UID/frozen is there as long as it is we who hold the instance: an agent that starts
 * and finds it lets the instance go on.  One that is paused by its owner is left as it is.
 * For worker threads; used by agent/image_task.c.
 */
#include <stdbool.h>

struct agent;
struct error;

struct freeze {
	const struct agent *agent;
	const char *uid; /* borrowed */
	int lock_fd;     /* of the marker: one at a time; -1: nothing is held */
	bool frozen;
};

/* One that does not run needs nothing: 0. */
int freeze_begin(const struct agent *agent, const char *uid, struct freeze *ret, struct error *err);

/* Lets it go on; may be called twice. */
void freeze_end(struct freeze *freeze);
static inline void freeze_end_autop(struct freeze *freeze)
{
	freeze_end(freeze);
}

/* At the start of an agent: ends what an earlier one has left.  Blocks. */
void freeze_undo_all(const struct agent *agent);
