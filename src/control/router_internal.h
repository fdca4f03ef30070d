#pragma once
/*
 * control/router_internal.h - the parts of a router.  Private to router*.c.
 *
 *	router.c		targets, floating addresses, forwards; requests
 *	router_network.c	the networks that it joins, and routes
 *	router_claim.c		what it has reserved
 *	router_answer.c		whether who is reached through it answers through it
 *
 * As control_internal.h: one thread, no I/O; what is written is a draft.
 */
#include "control/control_internal.h"

/* ---- router_claim.c */

void router_address_key(char key[CLAIM_KEY_SIZE], const char *network_uid, const char *address);
void router_floating_key(struct control *control, char key[CLAIM_KEY_SIZE], const struct ip *ip);

/* The port of the node that a forward without an address takes. */
struct publish router_forward_publish(const struct router_forward *forward);

/*
 * Reserves `key` for the router, unless it has it already.  -EADDRINUSE when it is another's;
 * `what` begins the line for people.
 */
int router_claim(struct draft *draft, const struct router *router, const char *key,
		 const char *what, struct error *err);

/* The ends of its link to the node, when it has none yet.  -EDQUOT: all are taken. */
int router_claim_transit(struct draft *draft, struct router *router, struct error *err);

/* Gives back what its spec does not need. */
void router_release_unused(struct draft *draft, const struct router *router);

/* ---- router_network.c */

/* Its networks' uids and its addresses in them are found, checked and reserved. */
int router_complete_networks(struct draft *draft, struct router *router, struct error *err);

int router_check_routes(struct control *control, const struct router_spec *spec, struct error *err);

/* The joined network that an address is in; NULL: none. */
const struct router_network *
router_joined_with(struct control *control, const struct router_spec *spec, const struct ip *ip);

/* ---- router.c */

/* The instance's port by which a router reaches the target; NULL: by none. */
const struct port *router_target_port(const struct router_spec *spec, const struct item *instance,
				      const struct router_target *target);

/* ---- router_answer.c */

/*
 * Refuses what leads to an instance that would not answer through this router.  What was there
 * `before` (NULL: nothing) stays.
 */
int router_check_answers(struct control *control, const struct router *router,
			 const struct router *before, struct error *err);
