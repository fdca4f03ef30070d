#include "agent/actors.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent_internal.h"
#include "agent/balancer_actor.h"
#include "agent/group_actor.h"
#include "agent/image_actor.h"
#include "agent/link.h"
#include "agent/network_actor.h"
#include "agent/router_actor.h"
#include "base/mem.h"
#include "base/strv.h"
#include "model/meta.h"

static const struct actor_ops *const all_ops[ACTOR_KIND_COUNT] = {
	[ACTOR_BALANCER] = &balancer_actor_ops, [ACTOR_ROUTER] = &router_actor_ops,
	[ACTOR_NETWORK] = &network_actor_ops,   [ACTOR_GROUP] = &group_actor_ops,
	[ACTOR_IMAGE] = &image_actor_ops,
};

void *actors_find(struct agent *agent, enum actor_kind kind, const char *uid)
{
	struct actor *actor;

	HASH_FIND_STR(agent->actors[kind], uid, actor);
	return actor;
}

void *actors_need(struct agent *agent, enum actor_kind kind, const char *uid)
{
	struct actor *actor = actors_find(agent, kind, uid);

	if (actor)
		return actor;
	actor = mem_zalloc(all_ops[kind]->size);
	actor->agent = agent;
	actor->kind = kind;
	snprintf(actor->uid, sizeof(actor->uid), "%s", uid);
	all_ops[kind]->init(actor);
	HASH_ADD_STR(agent->actors[kind], uid, actor);
	return actor;
}

void actors_found(struct agent *agent, enum actor_kind kind, const char *uid)
{
	if (strlen(uid) < UID_SIZE)
		actors_need(agent, kind, uid);
}

void actors_remove(struct actor *actor)
{
	HASH_DEL(actor->agent->actors[actor->kind], actor);
	all_ops[actor->kind]->done(actor);
	free(actor);
}

void actors_tell_status(struct actor *actor, json_t *status)
{
	uint64_t hash = agent_hash(status);

	if (hash == actor->told || !link_connected(actor->agent->link))
		return;
	actor->told = hash;
	link_send_status(actor->agent->link, all_ops[actor->kind]->kind, actor->uid, status);
}

bool actors_same_wish(const struct meta *old, const struct meta *now)
{
	return old && old->generation == now->generation && !old->deleted_ms == !now->deleted_ms;
}

static const struct actor_ops *find_ops(const char *kind, enum actor_kind *ret)
{
	for (size_t i = 0; i < ACTOR_KIND_COUNT; i++)
		if (strcmp(all_ops[i]->kind, kind) == 0) {
			*ret = (enum actor_kind) i;
			return all_ops[i];
		}
	return NULL;
}

int actors_assign(struct agent *agent, const char *kind, const json_t *resource)
{
	enum actor_kind number;
	const struct actor_ops *ops = find_ops(kind, &number);

	if (!ops)
		return -ENOENT;
	ops->assign(agent, resource);
	return 0;
}

void actors_forget(struct agent *agent, const char *kind, const char *uid)
{
	enum actor_kind number;
	const struct actor_ops *ops = find_ops(kind, &number);
	struct actor *actor = ops ? actors_find(agent, number, uid) : NULL;

	if (actor)
		ops->unwant(actor);
}

void actors_complete(struct agent *agent)
{
	struct actor *actor, *next;

	for (size_t i = 0; i < ACTOR_KIND_COUNT; i++)
		HASH_ITER(hh, agent->actors[i], actor, next)
		{
			if (actor->session != agent->session)
				all_ops[i]->unwant(actor);
			else if (all_ops[i]->complete)
				all_ops[i]->complete(actor);
		}
}

void actors_tell(struct agent *agent)
{
	struct actor *actor, *next;

	for (size_t i = 0; i < ACTOR_KIND_COUNT; i++)
		HASH_ITER(hh, agent->actors[i], actor, next)
	actor->told = 0;
}

char **actors_list(struct agent *agent, enum actor_kind kind)
{
	struct actor *actor, *next;
	char **list = mem_new0(char *);

	HASH_ITER(hh, agent->actors[kind], actor, next)
	strv_append(&list, actor->uid);
	return list;
}

void actors_free(struct agent *agent)
{
	struct actor *actor, *next;

	for (size_t i = 0; i < ACTOR_KIND_COUNT; i++)
		HASH_ITER(hh, agent->actors[i], actor, next)
	actors_remove(actor);
}
