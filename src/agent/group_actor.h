#pragma once
/*
 * agent/group_actor.h - one security group of the node: its rules in the kernel.
 *
 * Puts into force what is assigned, takes away what is deleted or unknown.  What somebody else does
 * to the rules is repaired below (net/rules_internal.h, agent/net_watch.h).  Used by agent/ on the
 * loop's thread.
 */
#include "agent/actors.h"
#include "agent/plan.h"

struct agent;

extern const struct actor_ops group_actor_ops;

/*
 * Whether all of these (a strv of uids) are in force; the least of them counts.  *ret_error
 * (borrowed) says why one has FAILED.
 */
enum plan_need groups_need(struct agent *agent, char *const *uids, const char **ret_error);
