#pragma once
/*
 * agent/actors.h - what all actors of the node's resources have in common, but instances'.
 *
 * An actor carries out one resource: it is made when the resource is assigned, or when something of
 * it is found, and goes when nothing of it is left.  struct router_actor and its like begin with a
 * struct actor; what they do differently is their struct actor_ops.  Used by agent/ on the loop's
 * thread.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

#include "base/clock.h"
#include "base/json.h"

struct actor;
struct agent;
struct meta;

/* Who uses others goes before them. */
enum actor_kind {
	ACTOR_BALANCER,
	ACTOR_ROUTER,
	ACTOR_NETWORK,
	ACTOR_GROUP,
	ACTOR_IMAGE,
	ACTOR_KIND_COUNT
};

struct actor_ops {
	const char *kind; /* of the resource, as the link says it */
	size_t size;      /* of the whole struct */
	void (*init)(struct actor *actor);
	void (*assign)(struct agent *agent, const json_t *resource);
	/* Nobody wants it any more.  May free it. */
	void (*unwant)(struct actor *actor);
	/* All that is wanted is known now.  NULL: it does not wait for that.  May free it. */
	void (*complete)(struct actor *actor);
	/* Frees what is in it; the struct itself goes afterwards. */
	void (*done)(struct actor *actor);
};

struct actor {
	UT_hash_handle hh;
	struct agent *agent;
	enum actor_kind kind;
	char uid[UID_SIZE];
	uint32_t session;    /* in which it was named last */
	uint64_t generation; /* carried out */
	uint64_t told;       /* hash of the last status */
};

/* Goes over all of one kind; `actor` may be removed on the way. */
#define ACTORS_EACH(agent, kind, actor, next)                                                      \
	for ((actor) = (void *) (agent)->actors[kind];                                             \
	     (actor) && ((next) = (actor)->base.hh.next, true); (actor) = (next))

/* NULL: there is none. */
void *actors_find(struct agent *agent, enum actor_kind kind, const char *uid);

/* Made when there is none. */
void *actors_need(struct agent *agent, enum actor_kind kind, const char *uid);

/* Something of it exists without having been assigned: it is removed unless somebody wants it. */
void actors_found(struct agent *agent, enum actor_kind kind, const char *uid);

/* Takes it away from the others, and frees it. */
void actors_remove(struct actor *actor);

/* Tells its status if it is another than the last one.  Borrows `status`. */
void actors_tell_status(struct actor *actor, json_t *status);

/* What was assigned before (`old` may be NULL) asks for the same as what is assigned now. */
bool actors_same_wish(const struct meta *old, const struct meta *now);

/* What the link says; -ENOENT: there are no such resources. */
int actors_assign(struct agent *agent, const char *kind, const json_t *resource);
void actors_forget(struct agent *agent, const char *kind, const char *uid);

/* Those of an earlier session that were not named in this one are garbage. */
void actors_complete(struct agent *agent);

/* The link is back: every status is told again. */
void actors_tell(struct agent *agent);

/* The uids that are there or wanted, as a strv. */
char **actors_list(struct agent *agent, enum actor_kind kind);

void actors_free(struct agent *agent);
