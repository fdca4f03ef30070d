#pragma once
/*
 * agent/router_actor.h - one router of the node.
 *
 * Makes what is assigned when its networks are there, makes it again when somebody changes what is
 * in its namespace, takes away what is deleted or unknown.  Used by agent/ on the loop's thread.
 */
#include "agent/actors.h"
#include "model/address.h"

struct agent;

extern const struct actor_ops router_actor_ops;

/* A network may have become ready, or be another now. */
void router_actors_wake(struct agent *agent);

/* A network has another bridge than before, without the ports of its routers. */
void router_actors_rejoin(struct agent *agent, const char *network_uid);

/* Of the routes that are announced some may have gone. */
void router_actors_routes_changed(struct agent *agent);

/*
 * The addresses of the router that is the gateway of a network, as it is wanted: whether it is made
 * already does not matter to who sends there.  "" = none.
 */
void router_actor_gateway(struct agent *agent, const char *network_uid, const struct ip *gateway4,
			  const struct ip *gateway6, char ret4[IP_TEXT_SIZE],
			  char ret6[IP_TEXT_SIZE]);

/* Calls `fn` for every router that is wanted; `made`: it has a namespace. */
struct router;
typedef void (*router_fn)(const struct router *router, bool made, void *data);
void router_actors_each(struct agent *agent, router_fn fn, void *data);
