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
#include "agent/actors.h"

struct agent;

extern const struct actor_ops balancer_actor_ops;

/* A network was made, or has failed: those on it go on. */
void balancer_actors_wake(struct agent *agent, const char *network_uid);
