#pragma once
/*
 * agent/balancer_actor.h - one load balancer of the node: its rules and the health of its members.
 *
 * Makes what is assigned, checks the members, takes those that fail or are drained out of the
 * rules, counts connections where they are needed, and takes away what is deleted or unknown.  Used
 * by agent/ on the loop's thread.
 *
 * Crash: who gets connections is read from the kernel by the next agent; those members are taken
 * for healthy until a check says otherwise, so that nobody notices.
 */
#include "base/json.h"

struct agent;

void balancer_actor_assign(struct agent *agent, const json_t *resource);
void balancer_actor_forget(struct agent *agent, const char *uid);

/* One that exists without having been assigned: it is removed unless somebody wants it. */
void balancer_actor_found(struct agent *agent, const char *uid);

/* All of an earlier session that were not named in this one are garbage. */
void balancer_actors_complete(struct agent *agent);

/* The link is back: tell every status again. */
void balancer_actors_tell(struct agent *agent);

/* A network was made, or has failed: those on it go on. */
void balancer_actors_wake(struct agent *agent, const char *network_uid);

/* Before balancer_rounds_free(). */
void balancer_actors_free(struct agent *agent);
