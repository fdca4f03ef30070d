#pragma once
/*
 * agent/hold.h - the second hand on every instance's pipes and terminal.
 *
 * What is in a FIFO that nobody has open is lost, and a terminal ends with its last holder.  The
 * keeper holds them; so does the agent, which does nothing with them: when the keeper is killed the
 * pipes keep what is written, the terminal lives, the exit code is not forgotten, and the next
 * keeper gets everything back.  FIFOs are found by name, the terminal in the queue of its console
 * socket, which only a descriptor leads to.  Only when both are killed at once an instance loses
 * its terminal.
 *
 * Used by agent/ on the loop's thread.
 */
#include <stdbool.h>

#include "codec/keeper_wire.h"

struct agent;
struct keeper_client;

/*
 * Of any job; takes over *console_fd when it is wanted.  An exit code that the keeper does not know
 * is filled in, when it is known here.
 */
void hold_keeper_event(struct agent *agent, struct keeper_msg *msg, int *console_fd);

/* The keeper has died: what the next one does not list is not held any longer. */
void hold_keeper_lost(struct agent *agent);
void hold_keeper_listed(struct agent *agent);

/* For a new keeper, before it lists its jobs. */
void hold_give_back(struct agent *agent, struct keeper_client *client);

/* A new descriptor that leads to the job's stdin or terminal; -ENOENT when it has none (any more).
 */
int hold_open_input(struct agent *agent, const char *job);

/* The job's stdin ends when it has read what is there; the keeper is told. */
void hold_end_input(struct agent *agent, const char *job);

void hold_free_all(struct agent *agent);
