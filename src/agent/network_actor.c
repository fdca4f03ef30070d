#include "agent/network_actor.h"

#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/actors.h"
#include "agent/agent_internal.h"
#include "agent/balancer_actor.h"
#include "agent/flow_log.h"
#include "agent/instance_actor.h"
#include "agent/network_server.h"
#include "agent/policy.h"
#include "agent/retry.h"
#include "agent/router_actor.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/strv.h"
#include "kern/link.h"
#include "model/network.h"
#include "net/network.h"

enum { RETRY_FIRST_MS = 100, RETRY_MAX_MS = 60000, REREAD_MS = 100 };

struct network_actor {
	struct actor base;
	struct network *want; /* NULL: nobody wants it */
	bool made;            /* as `want` says */
	bool busy;            /* a step is on a worker */
	bool removed;         /* nothing of it is left */
	char *error;
	char bridge[NETWORK_BRIDGE_SIZE];
	uint32_t mtu;  /* of its ports */
	uint16_t zone; /* of its flows */
	struct uplink_status uplink;
	bool stale;  /* something changed while a step was under way */
	bool broken; /* its ports may have gone: they are looked at when it is there again */
	struct network_server servers[NETWORK_SERVER_COUNT];
	struct retry retry;
	struct retry reread; /* of leases: one for all that change in that time */
};

struct task {
	struct network_actor *actor;
	struct net *net;
	struct network_args args;
	struct network_tunnel tunnel;
	char *project;
	bool remove;
	int result;
	struct error err;
	struct error refused; /* it is there, but not announced */
	struct bridge_status status;
};

static void advance(struct network_actor *actor);

static void on_retry(void *data)
{
	advance(data);
}

/* One that is not there reads everything when it comes. */
static void on_reread(void *data)
{
	struct network_actor *actor = data;
	struct network_server *server = &actor->servers[NETWORK_LEASES];

	server->old = server->state == NETWORK_SERVER_RUNNING;
	advance(actor);
}

static void init(struct actor *base)
{
	struct network_actor *actor = (struct network_actor *) base;

	actor->retry = (struct retry){ .fire = on_retry, .data = actor };
	/* An agent of before may have died before it had the leases read again. */
	actor->servers[NETWORK_LEASES].old = true;
	actor->reread = (struct retry){ .fire = on_reread, .data = actor };
}

static void release(struct actor *base)
{
	struct network_actor *actor = (struct network_actor *) base;

	retry_stop(&actor->retry);
	retry_stop(&actor->reread);
	network_free(actor->want);
	for (size_t i = 0; i < NETWORK_SERVER_COUNT; i++)
		strv_free(actor->servers[i].argv);
	free(actor->error);
}

static bool wanted(const struct network_actor *actor)
{
	return actor->want && !actor->want->meta.deleted_ms;
}

static void fill_args(const struct network *network, struct network_args *ret)
{
	const struct network_spec *spec = &network->spec;
	struct network_args args = { .nat = spec->nat,
				     .isolated = spec->isolated,
				     .named = !spec->isolated &&
					      network_can(spec, NETWORK_CAN_NAMES),
				     .dhcp = spec->dhcp,
				     .advertise = spec->advertise,
				     .flow_log = spec->flow_log,
				     .mtu = spec->mtu };

	snprintf(args.driver, sizeof(args.driver), "%s", network_driver_names[spec->driver]);
	if (spec->driver == NETWORK_DRIVER_MACVLAN)
		snprintf(args.mode, sizeof(args.mode), "%s", macvlan_mode_names[spec->mode]);
	if (spec->uplink)
		snprintf(args.uplink, sizeof(args.uplink), "%s", spec->uplink);
	memcpy(args.uid, network->meta.uid, sizeof(args.uid));
	if (network->spec.ipv4.base.family) {
		subnet_format(&network->spec.ipv4, args.ipv4);
		if (!args.isolated)
			ip_format(&network->spec.gateway4, args.gateway4);
	}
	if (network->spec.ipv6.base.family) {
		subnet_format(&network->spec.ipv6, args.ipv6);
		if (!args.isolated)
			ip_format(&network->spec.gateway6, args.gateway6);
	}
	snprintf(args.dns_domain, sizeof(args.dns_domain), "%s",
		 network->spec.dns_domain ? network->spec.dns_domain : "");
	snprintf(args.project, sizeof(args.project), "%s", network->meta.project);
	network_zone(network, args.zone);
	*ret = args;
}

enum plan_need network_need(struct agent *agent, const char *uid, struct network_args *ret,
			    const char **ret_error)
{
	struct network_actor *actor = actors_find(agent, ACTOR_NETWORK, uid);

	if (!actor || !wanted(actor))
		return PLAN_NEED_WAIT;
	if (!actor->made && !actor->error)
		return PLAN_NEED_WAIT;
	if (ret) {
		fill_args(actor->want, ret);
		ret->mtu = actor->mtu;
		if (ret->isolated)
			router_actor_gateway(agent, uid, &actor->want->spec.gateway4,
					     &actor->want->spec.gateway6, ret->gateway4,
					     ret->gateway6);
	}
	if (actor->made)
		return PLAN_NEED_READY;
	*ret_error = actor->error;
	return PLAN_NEED_FAILED;
}

static char **list_subnets(const struct network_spec *spec)
{
	const struct subnet *subnets[] = { &spec->ipv4, &spec->ipv6 };
	char text[SUBNET_TEXT_SIZE], **list = NULL;

	for (size_t i = 0; i < ARRAY_COUNT(subnets); i++) {
		if (!subnets[i]->base.family)
			continue;
		subnet_format(subnets[i], text);
		strv_append(&list, text);
	}
	return list;
}

static void tell(struct network_actor *actor)
{
	struct network_status status = { .generation = actor->base.generation,
					 .error = actor->error };

	if (!actor->want)
		return;
	status.bridge = actor->bridge;
	status.mtu = actor->made ? actor->mtu : 0;
	if (actor->made && wanted(actor) && actor->want->spec.advertise && !actor->error)
		status.advertised = list_subnets(&actor->want->spec);
	if (actor->removed)
		status.state = NETWORK_GONE;
	else if (actor->error)
		status.state = NETWORK_FAILED;
	else
		status.state = actor->made && wanted(actor) ? NETWORK_READY : NETWORK_PENDING;
	AUTO(json_decref) json_t *json = network_status_encode(&status);
	actors_tell_status(&actor->base, json);
	strv_free(status.advertised);
}

/* True when its servers are as they should be, running or not. */
static bool advance_servers(struct network_actor *actor, struct keeper_client *keeper)
{
	bool all = true;

	for (size_t i = 0; i < NETWORK_SERVER_COUNT; i++) {
		struct network_server *server = &actor->servers[i];
		struct error err = {};
		int r = network_server_advance(server, actor->base.agent, keeper, actor->base.uid,
					       i, wanted(actor) && server->argv,
					       !retry_waiting(&actor->retry), &err);

		if (r < 0) {
			log_error("network %s: %s", actor->base.uid, err.msg);
			retry_later(&actor->retry, actor->base.agent->event, RETRY_FIRST_MS,
				    RETRY_MAX_MS);
		}
		all = all && r > 0;
	}
	return all;
}

static bool has_servers(const struct network_actor *actor)
{
	for (size_t i = 0; i < NETWORK_SERVER_COUNT; i++)
		if (actor->servers[i].state != NETWORK_SERVER_NONE)
			return true;
	return false;
}

static int check_prefix(const struct task *task, const struct policy *policy, const char *text,
			struct error *err)
{
	struct subnet subnet;
	int r;

	if (!text[0])
		return 0;
	r = subnet_parse(text, 0, "subnet", &subnet, err);
	return r < 0 ? r : policy_check_advertise(policy, task->project, &subnet, err);
}

/* What the node gives away is said by its policy: an interface, and what its peers are told. */
static int check_uplink(const struct task *task, struct error *err)
{
	AUTO(free) char *path = agent_policy_path(task->actor->base.agent);
	AUTO(policy_free) struct policy *policy = NULL;
	int r;

	if (!task->args.uplink[0])
		return 0;
	r = policy_load(path, &policy, err);
	return r < 0 ? r : policy_check_uplink(policy, task->project, task->args.uplink, err);
}

/* A network that may not be announced goes on as it is; task->refused says why nobody is told. */
static bool may_advertise(struct task *task)
{
	AUTO(free) char *path = agent_policy_path(task->actor->base.agent);
	AUTO(policy_free) struct policy *policy = NULL;
	int r = policy_load(path, &policy, &task->refused);

	if (r == 0)
		r = check_prefix(task, policy, task->args.ipv4, &task->refused);
	if (r == 0)
		r = check_prefix(task, policy, task->args.ipv6, &task->refused);
	return r == 0;
}

static int make(struct task *task)
{
	int r = check_uplink(task, &task->err);

	if (task->args.advertise)
		task->args.advertise = may_advertise(task);
	struct bridge_spec spec = { .uid = task->args.uid,
				    .driver = task->args.driver,
				    .mode = task->args.mode,
				    .uplink = task->args.uplink,
				    .ipv4 = task->args.ipv4,
				    .gateway4 = task->args.gateway4,
				    .ipv6 = task->args.ipv6,
				    .gateway6 = task->args.gateway6,
				    .nat = task->args.nat,
				    .isolated = task->args.isolated,
				    .dns_domain = task->args.dns_domain,
				    .zone = task->args.zone,
				    .project = task->args.project,
				    .dhcp = task->args.dhcp,
				    .advertise = task->args.advertise,
				    .mtu = task->args.mtu,
				    .flow_log = task->args.flow_log,
				    .tunnel = { .gre = task->tunnel.gre,
						.vni = task->tunnel.vni,
						.port = task->tunnel.port,
						.local = task->tunnel.local,
						.remotes = task->tunnel.peers } };

	return r < 0 ? r : network_ensure(task->net, &spec, &task->status, &task->err);
}

/* With its flow log, which nobody writes any more. */
static int take_away(struct task *task)
{
	AUTO(free)
	char *folder = flow_log_folder(task->actor->base.agent, task->args.uid);
	int r = network_remove(task->net, task->args.uid, &task->err);

	if (r < 0)
		return r;
	r = file_remove_tree(AT_FDCWD, folder);
	return r < 0 ? error_set(&task->err, r, "cannot remove %s", folder) : 0;
}

static void work(void *data)
{
	struct task *task = data;

	task->result = task->remove ? take_away(task) : make(task);
}

static void take_server(struct network_server *server, struct network_dns *made)
{
	strv_free(server->argv);
	server->argv = TAKE_PTR(made->argv);
	server->old |= made->restart && server->state == NETWORK_SERVER_RUNNING;
}

/* The bridge is another one: its ports, routers and server of leases were on the one before. */
static void take_new_bridge(struct network_actor *actor)
{
	struct network_server *server = &actor->servers[NETWORK_LEASES];

	log_warning("network %s: its bridge was removed by somebody else, repaired",
		    actor->base.uid);
	actor->broken = true;
	server->old |= server->state == NETWORK_SERVER_RUNNING;
	router_actors_rejoin(actor->base.agent, actor->base.uid);
}

static void take_made(struct network_actor *actor, struct task *task)
{
	int before = actor->uplink.index;

	actor->made = true;
	actor->mtu = task->status.mtu;
	actor->zone = task->status.zone;
	actor->uplink = task->status.uplink;
	if (actor->want && actor->want->spec.driver == NETWORK_DRIVER_BRIDGE && before != 0 &&
	    before != actor->uplink.index)
		take_new_bridge(actor);
	if (actor->broken)
		instance_actors_reattach(actor->base.agent, actor->base.uid);
	actor->broken = false;
	mem_replace(&actor->error, task->refused.msg[0] ? task->refused.msg : NULL);
	memcpy(actor->bridge, task->status.bridge, sizeof(actor->bridge));
	take_server(&actor->servers[NETWORK_NAMES], &task->status.dns);
	take_server(&actor->servers[NETWORK_LEASES], &task->status.dhcp);
}

static void done(void *data)
{
	struct task *task = data;
	struct network_actor *actor = task->actor;

	actor->busy = false;
	if (task->result < 0) {
		if (!actor->error || strcmp(actor->error, task->err.msg) != 0)
			log_error("network %s: %s", actor->base.uid, task->err.msg);
		mem_replace(&actor->error, task->err.msg);
		actor->broken = true;
		/* Also a failure may pass: a full table, a module that is loaded later. */
		retry_later(&actor->retry, actor->base.agent->event, RETRY_FIRST_MS * 50,
			    RETRY_MAX_MS);
		if (wanted(actor))
			actor->base.generation = actor->want->meta.generation;
	} else if (task->remove) {
		actor->removed = true;
	} else {
		retry_stop(&actor->retry);
		take_made(actor, task);
	}
	if (actor->stale)
		actor->made = false;
	actor->stale = false;
	bridge_status_done(&task->status);
	free(task->tunnel.local);
	strv_free(task->tunnel.peers);
	free(task->project);
	free(task);
	agent_wake_instances(actor->base.agent);
	balancer_actors_wake(actor->base.agent, actor->base.uid);
	flow_log_changed(actor->base.agent);
	advance(actor);
}

static void copy_wanted(const struct network *network, struct task *task)
{
	const struct network_tunnel *tunnel = &network->spec.tunnel;

	fill_args(network, &task->args);
	task->project = mem_strdup(network->meta.project);
	task->tunnel = (struct network_tunnel){ .gre = tunnel->gre,
						.vni = tunnel->vni,
						.port = tunnel->port,
						.local = mem_strdup(tunnel->local),
						.peers = strv_copy(tunnel->peers) };
}

static void submit(struct network_actor *actor, bool removal)
{
	struct task *task = mem_new0(struct task);

	task->actor = actor;
	task->net = actor->base.agent->net;
	task->remove = removal;
	if (removal)
		memcpy(task->args.uid, actor->base.uid, sizeof(actor->base.uid));
	else
		copy_wanted(actor->want, task);
	actor->busy = true;
	actor->removed = false;
	pool_submit(actor->base.agent->pool, work, done, task);
}

static void advance(struct network_actor *actor)
{
	struct keeper_client *keeper = agent_keeper(actor->base.agent);
	bool known = actor->want || actor->base.agent->complete;

	if (actor->busy || !keeper || !known)
		return;
	if (!actor->made && !actor->removed && !retry_waiting(&actor->retry) && wanted(actor)) {
		submit(actor, false);
	} else if (advance_servers(actor, keeper) && wanted(actor) && actor->made) {
		actor->base.generation = actor->want->meta.generation;
	} else if (!wanted(actor) && !has_servers(actor)) {
		if (!actor->removed && !retry_waiting(&actor->retry)) {
			actor->made = false;
			submit(actor, true);
		}
	}
	if (actor->removed && actor->want)
		actor->base.generation = actor->want->meta.generation;
	tell(actor);
	if (actor->removed && !actor->busy)
		actors_remove(&actor->base);
}

static void assign(struct agent *agent, const json_t *resource)
{
	struct network *network = NULL;
	struct error err = {};

	if (network_decode(resource, &network, &err) < 0) {
		log_error("brumed assigned a network that is not understood: %s", err.msg);
		return;
	}
	struct network_actor *actor = actors_need(agent, ACTOR_NETWORK, network->meta.uid);
	bool same = actors_same_wish(actor->want ? &actor->want->meta : NULL, &network->meta);
	network_free(actor->want);
	actor->want = network;
	actor->base.session = agent->session;
	if (!same) {
		actor->made = false;
		mem_replace(&actor->error, NULL);
		retry_stop(&actor->retry);
	}
	advance(actor);
}

static void unwant(struct actor *base)
{
	struct network_actor *actor = (struct network_actor *) base;

	network_free(actor->want);
	actor->want = NULL;
	retry_stop(&actor->retry);
	advance(actor);
}

void network_ports_changed(struct agent *agent, const char *uid)
{
	struct network_actor *actor = actors_find(agent, ACTOR_NETWORK, uid);

	if (actor && wanted(actor) && actor->want->spec.dhcp && !retry_waiting(&actor->reread))
		retry_in(&actor->reread, agent->event, REREAD_MS);
}

/*
 * Somebody has taken away or turned off our bridge or a tunnel of it, or has unplugged the tunnel.
 * What we do ourselves comes by here, too: what is just being made has no alias yet, or is up.
 */
static bool is_damaged(const struct network_actor *actor, const struct link *link, bool gone)
{
	int bridge = actor->uplink.index;

	if (bridge == 0)
		return false;
	if (!link)
		return (int) if_nametoindex(actor->bridge) != bridge;
	if (strcmp(link->alias, actor->base.uid) != 0)
		return false;
	return gone || !(link->flags & IFF_UP) || (link->index != bridge && link->master != bridge);
}

/* Whether what the network depends on is not any more what it was when it was looked at. */
static bool is_affected(const struct network_actor *actor, const struct link *link, bool gone)
{
	const struct uplink_status *uplink = &actor->uplink;
	const char *name = actor->want->spec.uplink;
	bool same;

	if (actor->want->spec.driver == NETWORK_DRIVER_BRIDGE)
		return is_damaged(actor, link, gone);
	if (!link)
		return true;
	if (!name)
		name = actor->bridge;
	same = strcmp(link->name, name) == 0;
	if (!same && link->index != uplink->index)
		return false;
	return !same || gone || !actor->made || link->index != uplink->index ||
	       (uplink->up && !(link->flags & IFF_UP)) || (uplink->mtu && link->mtu != uplink->mtu);
}

void network_actors_link_changed(struct agent *agent, const struct link *link, bool gone)
{
	struct network_actor *actor, *next;

	ACTORS_EACH(agent, ACTOR_NETWORK, actor, next)
	{
		if (!wanted(actor) || !is_affected(actor, link, gone))
			continue;
		retry_stop(&actor->retry);
		actor->made = false;
		actor->stale = actor->busy;
		/* Of a bridge of ours it is known afterwards whether it is another one. */
		actor->broken |= actor->want->spec.driver != NETWORK_DRIVER_BRIDGE;
		advance(actor);
	}
}

void network_actor_keeper_event(struct agent *agent, const struct keeper_msg *msg)
{
	struct network_actor *actor = actors_need(agent, ACTOR_NETWORK, msg->job + 2);

	if (network_server_keeper_event(&actor->servers[network_server_kind_of(msg)], msg) &&
	    wanted(actor)) {
		log_warning("network %s: dnsmasq ended (%s %d), starting it again", actor->base.uid,
			    msg->exit_kind == KEEPER_EXIT_SIGNAL ? "signal" : "code",
			    msg->exit_value);
		retry_later(&actor->retry, agent->event, RETRY_FIRST_MS, RETRY_MAX_MS);
	}
	advance(actor);
}

void network_actors_keeper_listed(struct agent *agent)
{
	struct network_actor *actor, *next;

	ACTORS_EACH(agent, ACTOR_NETWORK, actor, next)
	{
		for (size_t i = 0; i < NETWORK_SERVER_COUNT; i++)
			if (!actor->servers[i].listed)
				actor->servers[i].state = NETWORK_SERVER_NONE;
		advance(actor);
	}
}

void network_actors_keeper_lost(struct agent *agent)
{
	struct network_actor *actor, *next;

	ACTORS_EACH(agent, ACTOR_NETWORK, actor, next)
	{
		for (size_t i = 0; i < NETWORK_SERVER_COUNT; i++)
			actor->servers[i].listed = actor->servers[i].killed = false;
	}
}

void network_actors_each(struct agent *agent, network_fn fn, void *data)
{
	struct network_actor *actor, *next;

	ACTORS_EACH(agent, ACTOR_NETWORK, actor, next)
	{
		if (wanted(actor))
			fn(actor->want, actor->zone, data);
	}
}

const struct actor_ops network_actor_ops = { .kind = "network",
					     .size = sizeof(struct network_actor),
					     .init = init,
					     .assign = assign,
					     .unwant = unwant,
					     .done = release };
