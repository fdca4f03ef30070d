#pragma once
/*
 * agent/keeper_watch.h - keeps a keeper running and the agent connected to it.
 *
 * Starts brume-keeper in a session of its own when nobody listens on RUN/keeper.sock, connects,
 * and does so again when it dies.  Jobs are hands-off here: their events go to
 * agent_keeper_event().  Used by agent/ on the loop's thread.
 */
#include "base/cleanup.h"
#include "keeper/client.h"

struct agent;
struct error;
struct keeper_watch;

int keeper_watch_new(struct agent *agent, struct keeper_watch **ret, struct error *err);

/* Connected and all jobs named; else NULL. */
struct keeper_client *keeper_watch_client(struct keeper_watch *watch);

void keeper_watch_free(struct keeper_watch *watch);
DEFINE_AUTO(struct keeper_watch *, keeper_watch_free)
