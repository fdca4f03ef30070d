#pragma once
/*
 * cli/signals.h - signals as a readable descriptor, for verbs that run a poll() loop.
 *
 * Used by cli/wait, exec, logs and events.  The signals are blocked from begin to end; both are
 * called by the same thread.
 */
#include <signal.h>

#include "base/cleanup.h"

struct error;

struct signals {
	int fd;
	sigset_t before;
};

/* `list` ends with 0. */
int signals_begin(struct signals *signals, const int *list, struct error *err);

/* The next signal that has come, 0 when there is none. */
int signals_take(struct signals *signals);

/* Accepts one on which signals_begin() failed or was not called (fd -1). */
void signals_end(struct signals *signals);
static inline void signals_end_autop(struct signals *signals)
{
	signals_end(signals);
}
