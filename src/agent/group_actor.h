#pragma once
/*
 * agent/group_actor.h - one security group of the node: its rules in the kernel.
 *
 * Puts into force what is assigned, takes away what is deleted or unknown.  What somebody else does
 * to the rules is repaired below (net/rules_internal.h, agent/net_watch.h).  Used by agent/ on the
 * loop's thread.
 */
#include "agent/plan.h"
#include "base/json.h"

struct agent;

void group_actor_assign(struct agent *agent, const json_t *resource);
void group_actor_forget(struct agent *agent, const char *uid);

/* A group that exists without having been assigned: it is removed unless somebody wants it. */
void group_actor_found(struct agent *agent, const char *uid);

/* All of an earlier session that were not named in this one are garbage. */
void group_actors_complete(struct agent *agent);

/* The link is back: tell every status again. */
void group_actors_tell(struct agent *agent);

/*
 * Whether all of these (a strv of uids) are in force; the least of them counts.  *ret_error
 * (borrowed) says why one has FAILED.
 */
enum plan_need groups_need(struct agent *agent, char *const *uids, const char **ret_error);

/* The uids that are there or wanted, as a strv. */
char **group_actors_list(struct agent *agent);

void group_actors_free(struct agent *agent);
