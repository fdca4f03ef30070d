#pragma once
/*
 * agent/router_actor.h - one router of the node.
 *
 * Makes what is assigned when its networks are there, makes it again when somebody changes what is
 * in its namespace, takes away what is deleted or unknown.  Used by agent/ on the loop's thread.
 */
#include "base/json.h"
#include "model/address.h"

struct agent;

void router_actor_assign(struct agent *agent, const json_t *resource);
void router_actor_forget(struct agent *agent, const char *uid);

/* One that exists without having been assigned: it is removed unless somebody wants it. */
void router_actor_found(struct agent *agent, const char *uid);

/* All of an earlier session that were not named in this one are garbage. */
void router_actors_complete(struct agent *agent);

/* The link is back: tell every status again. */
void router_actors_tell(struct agent *agent);

/* A network may have become ready, or be another now. */
void router_actors_wake(struct agent *agent);

/*
 * The addresses of the router that is the gateway of a network, as it is wanted: whether it is made
 * already does not matter to who sends there.  "" = none.
 */
void router_actor_gateway(struct agent *agent, const char *network_uid, const struct ip *gateway4,
			  const struct ip *gateway6, char ret4[IP_TEXT_SIZE],
			  char ret6[IP_TEXT_SIZE]);

/* The uids that are there or wanted, as a strv. */
char **router_actors_list(struct agent *agent);

void router_actors_free(struct agent *agent);
