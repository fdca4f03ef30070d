#include "agent/router_actor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/actors.h"
#include "agent/agent_internal.h"
#include "agent/flow_log.h"
#include "agent/network_actor.h"
#include "agent/policy.h"
#include "agent/retry.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/strv.h"
#include "model/router.h"
#include "net/router.h"

enum { RETRY_FIRST_MS = 5000, RETRY_MAX_MS = 60000, DRAIN_BYTES = 16384 };

struct router_actor {
	struct actor base;
	struct router *want; /* NULL: nobody wants it */
	bool made;           /* as `want` says */
	bool busy;           /* a step is on a worker */
	bool again;          /* something was changed meanwhile */
	bool removed;        /* nothing of it is left */
	char *error;
	char **advertised;
	uint32_t mtus[ROUTER_NETWORKS_MAX]; /* of its networks when it was made */
	sd_event_source *rules, *links;     /* changes in its namespace */
	struct retry retry;
};

struct task {
	struct router_actor *actor;
	struct net *net;
	struct router *router; /* what is wanted; NULL: nothing, take it away */
	char uid[UID_SIZE];
	struct network_args networks[ROUTER_NETWORKS_MAX];
	bool watch;
	int rules_fd, links_fd;
	int result;
	struct error err;
	struct error refused; /* it is there, but not announced */
	char **advertised;
	bool announced; /* until now */
};

static void advance(struct router_actor *actor);

static void on_retry(void *data)
{
	advance(data);
}

static void init(struct actor *base)
{
	struct router_actor *actor = (struct router_actor *) base;

	actor->retry = (struct retry){ .fire = on_retry, .data = actor };
}

static void stop_watching(struct router_actor *actor)
{
	sd_event_source_disable_unref(actor->rules);
	sd_event_source_disable_unref(actor->links);
	actor->rules = actor->links = NULL;
}

static void release(struct actor *base)
{
	struct router_actor *actor = (struct router_actor *) base;

	retry_stop(&actor->retry);
	stop_watching(actor);
	router_free(actor->want);
	strv_free(actor->advertised);
	free(actor->error);
}

static bool wanted(const struct router_actor *actor)
{
	return actor->want && !actor->want->meta.deleted_ms;
}

static void tell(struct router_actor *actor)
{
	struct router_status status = { .generation = actor->base.generation,
					.error = actor->error };

	if (!actor->want)
		return;
	if (actor->removed)
		status.state = ROUTER_GONE;
	else if (actor->error)
		status.state = ROUTER_FAILED;
	else
		status.state = actor->made && wanted(actor) ? ROUTER_READY : ROUTER_PENDING;
	if (actor->made && wanted(actor))
		status.advertised = actor->advertised;
	AUTO(json_decref) json_t *json = router_status_encode(&status);
	actors_tell_status(&actor->base, json);
}

/* ---- on a worker */

/* Texts that the lists of a struct router_setup borrow. */
struct texts {
	char routes[ROUTER_ENTRIES_MAX][2][SUBNET_TEXT_SIZE];
	char floating[ROUTER_ENTRIES_MAX][2][IP_TEXT_SIZE];
	char forwards[ROUTER_ENTRIES_MAX][3][IP_TEXT_SIZE];
	char transit[IP_TEXT_SIZE];
};

struct lists {
	struct router_leg legs[ROUTER_NETWORKS_MAX];
	struct router_static statics[ROUTER_ENTRIES_MAX];
	struct router_public publics[ROUTER_ENTRIES_MAX];
	struct router_door doors[ROUTER_ENTRIES_MAX];
	struct texts texts;
};

static const char *text_of(const struct ip *ip, char text[IP_TEXT_SIZE])
{
	ip_format(ip, text);
	return text;
}

static const struct ip *target_of(const struct router_floating *floating)
{
	return floating->address.family == 4 ? &floating->target.ipv4 : &floating->target.ipv6;
}

static void list_entries(const struct router_spec *spec, struct lists *lists)
{
	struct texts *texts = &lists->texts;

	for (size_t i = 0; i < spec->route_count; i++) {
		subnet_format(&spec->routes[i].to, texts->routes[i][0]);
		ip_format(&spec->routes[i].via, texts->routes[i][1]);
		lists->statics[i] = (struct router_static){ .to = texts->routes[i][0],
							    .via = texts->routes[i][1] };
	}
	for (size_t i = 0; i < spec->floating_count; i++)
		lists->publics[i] = (struct router_public){
			.address = text_of(&spec->floating[i].address, texts->floating[i][0]),
			.target = text_of(target_of(&spec->floating[i]), texts->floating[i][1])
		};
	for (size_t i = 0; i < spec->forward_count; i++) {
		const struct router_forward *from = &spec->forwards[i];

		lists->doors[i] = (struct router_door){
			.address = text_of(&from->address, texts->forwards[i][0]),
			.protocol = protocol_name(from->protocol),
			.port = from->port,
			.target4 = text_of(&from->target.ipv4, texts->forwards[i][1]),
			.target6 = text_of(&from->target.ipv6, texts->forwards[i][2]),
			.target_port = from->target_port
		};
	}
}

static int check_prefix(struct task *task, const struct policy *policy, const char *text,
			const char *length)
{
	struct subnet subnet;
	AUTO(free) char *whole = mem_printf("%s%s", text, length);
	int r;

	if (!text[0])
		return 0;
	r = subnet_parse(whole, 0, "subnet", &subnet, &task->refused);
	if (r == 0)
		r = policy_check_advertise(policy, task->router->meta.project, &subnet,
					   &task->refused);
	if (r == 0)
		strv_append(&task->advertised, whole);
	return r;
}

/* Whether the node's peers may be told of all that others reach it by. */
static bool may_advertise(struct task *task, const struct lists *lists)
{
	const struct router_spec *spec = &task->router->spec;
	AUTO(free) char *path = agent_policy_path(task->actor->base.agent);
	AUTO(policy_free) struct policy *policy = NULL;
	int r;

	if (!spec->advertise)
		return false;
	r = policy_load(path, &policy, &task->refused);
	for (size_t i = 0; r == 0 && !spec->nat && i < spec->network_count; i++) {
		const struct router_network *joined = &spec->networks[i];

		if (joined->ipv4[0])
			r = check_prefix(task, policy, task->networks[i].ipv4, "");
		if (r == 0 && joined->ipv6[0])
			r = check_prefix(task, policy, task->networks[i].ipv6, "");
	}
	for (size_t i = 0; r == 0 && i < spec->floating_count; i++)
		r = check_prefix(task, policy, lists->publics[i].address,
				 spec->floating[i].address.family == 4 ? "/32" : "/128");
	return r == 0;
}

static int ensure(struct task *task)
{
	const struct router_spec *spec = &task->router->spec;
	AUTO(free) struct lists *lists = mem_new0(struct lists);
	struct router_setup setup = { .uid = task->uid,
				      .legs = lists->legs,
				      .statics = lists->statics,
				      .publics = lists->publics,
				      .doors = lists->doors,
				      .leg_count = spec->network_count,
				      .static_count = spec->route_count,
				      .public_count = spec->floating_count,
				      .door_count = spec->forward_count,
				      .uplink = spec->uplink,
				      .nat = spec->nat,
				      .transit = text_of(&spec->transit, lists->texts.transit) };
	int r;

	for (size_t i = 0; i < spec->network_count; i++) {
		const struct network_args *network = &task->networks[i];

		lists->legs[i] = (struct router_leg){ .network_uid = network->uid,
						      .subnet4 = network->ipv4,
						      .subnet6 = network->ipv6,
						      .ipv4 = spec->networks[i].ipv4,
						      .ipv6 = spec->networks[i].ipv6,
						      .mtu = network->mtu };
	}
	list_entries(spec, lists);
	setup.advertise = may_advertise(task, lists);
	if (task->refused.msg[0] && task->announced) {
		/* A change that is refused withdraws nothing: it is taken back. */
		task->err = task->refused;
		return -EPERM;
	}
	r = router_ensure(task->net, &setup, &task->err);
	if (r < 0 || !task->watch)
		return r;
	/* What happened in between is seen by looking once more. */
	r = router_watch(task->net, task->uid, &task->rules_fd, &task->links_fd, &task->err);
	return r < 0 ? r : router_ensure(task->net, &setup, &task->err);
}

static void work(void *data)
{
	struct task *task = data;

	task->result =
		task->router ? ensure(task) : router_remove(task->net, task->uid, &task->err);
}

/* ---- on the loop */

static void drain(int fd)
{
	char buffer[DRAIN_BYTES];

	while (recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT) > 0 || errno == ENOBUFS)
		errno = 0;
}

/* Ours come by here, too: then there is nothing to repair. */
static int on_change(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct router_actor *actor = data;

	(void) source;
	(void) revents;
	drain(fd);
	actor->again = true;
	advance(actor);
	return 0;
}

static void watch(struct router_actor *actor, struct task *task)
{
	if (task->rules_fd < 0)
		return;
	stop_watching(actor);
	if (sd_event_add_io(actor->base.agent->event, &actor->rules, task->rules_fd, EPOLLIN,
			    on_change, actor) < 0 ||
	    sd_event_add_io(actor->base.agent->event, &actor->links, task->links_fd, EPOLLIN,
			    on_change, actor) < 0) {
		stop_watching(actor);
		return;
	}
	/* From here on they are closed with the sources. */
	sd_event_source_set_io_fd_own(actor->rules, 1);
	sd_event_source_set_io_fd_own(actor->links, 1);
	task->rules_fd = task->links_fd = -1;
}

static void take_failure(struct router_actor *actor, const struct task *task)
{
	mem_replace(&actor->error, task->err.msg);
	log_error("router %s: %s", actor->base.uid, task->err.msg);
	/* Unless it is refused again: then it is the policy that has changed. */
	if (task->refused.msg[0]) {
		strv_free(actor->advertised);
		actor->advertised = NULL;
	}
	/* Also a failure may pass: a port of the node that somebody gives up. */
	retry_later(&actor->retry, actor->base.agent->event, RETRY_FIRST_MS, RETRY_MAX_MS);
	actor->made = false;
}

static void take_made(struct router_actor *actor, struct task *task)
{
	bool refused = task->refused.msg[0];

	retry_stop(&actor->retry);
	actor->made = true;
	mem_replace(&actor->error, refused ? task->refused.msg : NULL);
	strv_free(actor->advertised);
	actor->advertised = refused ? NULL : TAKE_PTR(task->advertised);
	for (size_t i = 0; i < task->router->spec.network_count; i++)
		actor->mtus[i] = task->networks[i].mtu;
}

static void done(void *data)
{
	struct task *task = data;
	struct router_actor *actor = task->actor;
	bool present = actor->want && task->router &&
		       task->router->meta.generation == actor->want->meta.generation;

	actor->busy = false;
	watch(actor, task);
	if (task->result < 0)
		take_failure(actor, task);
	else if (!task->router)
		actor->removed = true;
	else if (present && wanted(actor))
		take_made(actor, task);
	if (wanted(actor) && present)
		actor->base.generation = actor->want->meta.generation;
	fd_close(task->rules_fd);
	fd_close(task->links_fd);
	router_free(task->router);
	strv_free(task->advertised);
	free(task);
	flow_log_changed(actor->base.agent);
	advance(actor);
}

/* Its networks as they are now; true when all of them are there. */
static bool look_at_networks(struct router_actor *actor, struct network_args *args)
{
	const struct router_spec *spec = &actor->want->spec;

	for (size_t i = 0; i < spec->network_count; i++) {
		const char *error = NULL;
		enum plan_need need =
			network_need(actor->base.agent, spec->networks[i].uid, &args[i], &error);

		/* What is made goes on. */
		if (need == PLAN_NEED_FAILED && !actor->made) {
			AUTO(free)
			char *text = mem_printf("network %s: %s", spec->networks[i].network,
						error ? error : "has failed");

			mem_replace(&actor->error, text);
			actor->base.generation = actor->want->meta.generation;
		}
		if (need != PLAN_NEED_READY)
			return false;
	}
	return true;
}

static struct router *copy_wanted(const struct router *router)
{
	AUTO(json_decref) json_t *doc = router_encode(router, ENCODE_ASSIGN);
	struct router *copy = NULL;

	/* What was decoded once can be decoded again. */
	if (router_decode(doc, &copy, NULL) < 0)
		abort();
	return copy;
}

static void submit(struct router_actor *actor, const struct network_args *networks)
{
	struct task *task = mem_new0(struct task);

	task->actor = actor;
	task->net = actor->base.agent->net;
	task->rules_fd = task->links_fd = -1;
	task->watch = !actor->rules;
	task->announced = actor->advertised != NULL;
	memcpy(task->uid, actor->base.uid, sizeof(task->uid));
	if (networks) {
		task->router = copy_wanted(actor->want);
		memcpy(task->networks, networks, sizeof(task->networks));
	}
	actor->busy = true;
	actor->again = false;
	actor->removed = false;
	pool_submit(actor->base.agent->pool, work, done, task);
}

static bool is_stale(const struct router_actor *actor, const struct network_args *networks)
{
	for (size_t i = 0; i < actor->want->spec.network_count; i++)
		if (networks[i].mtu != actor->mtus[i])
			return true;
	return false;
}

static void advance_wanted(struct router_actor *actor)
{
	AUTO(free)
	struct network_args *networks = mem_new0_array(struct network_args, ROUTER_NETWORKS_MAX);

	if (!look_at_networks(actor, networks))
		return;
	if (!actor->made ? !retry_waiting(&actor->retry)
			 : actor->again || is_stale(actor, networks))
		submit(actor, networks);
}

static void advance(struct router_actor *actor)
{
	bool known = actor->want || actor->base.agent->complete;

	if (actor->busy || !known)
		return;
	if (wanted(actor)) {
		advance_wanted(actor);
	} else if (!actor->removed && !retry_waiting(&actor->retry)) {
		/* They keep the namespace alive. */
		stop_watching(actor);
		actor->made = false;
		submit(actor, NULL);
	}
	if (actor->removed && actor->want)
		actor->base.generation = actor->want->meta.generation;
	tell(actor);
	if (actor->removed && !actor->busy)
		actors_remove(&actor->base);
}

/* ---- what comes from outside */

static void assign(struct agent *agent, const json_t *resource)
{
	struct router *router = NULL;
	struct error err = {};

	if (router_decode(resource, &router, &err) < 0) {
		log_error("brumed assigned a router that is not understood: %s", err.msg);
		return;
	}
	struct router_actor *actor = actors_need(agent, ACTOR_ROUTER, router->meta.uid);
	bool same = actors_same_wish(actor->want ? &actor->want->meta : NULL, &router->meta);
	router_free(actor->want);
	actor->want = router;
	actor->base.session = agent->session;
	if (!same) {
		actor->made = false;
		mem_replace(&actor->error, NULL);
		retry_stop(&actor->retry);
	}
	advance(actor);
	/* It may be a gateway now, or none any more. */
	if (!same)
		agent_wake_instances(agent);
}

static void unwant(struct actor *base)
{
	struct router_actor *actor = (struct router_actor *) base;
	struct agent *agent = actor->base.agent;

	router_free(actor->want);
	actor->want = NULL;
	retry_stop(&actor->retry);
	advance(actor);
	agent_wake_instances(agent);
}

void router_actors_wake(struct agent *agent)
{
	struct router_actor *actor, *next;

	ACTORS_EACH(agent, ACTOR_ROUTER, actor, next)
	advance(actor);
}

void router_actors_rejoin(struct agent *agent, const char *network_uid)
{
	struct router_actor *actor, *next;

	ACTORS_EACH(agent, ACTOR_ROUTER, actor, next)
	{
		if (!wanted(actor) || !router_find_network(&actor->want->spec, network_uid))
			continue;
		actor->again = true;
		advance(actor);
	}
}

void router_actors_routes_changed(struct agent *agent)
{
	struct router_actor *actor, *next;

	ACTORS_EACH(agent, ACTOR_ROUTER, actor, next)
	{
		if (!wanted(actor) || !actor->want->spec.advertise)
			continue;
		actor->again = true;
		advance(actor);
	}
}

static void take_gateway(const struct ip *gateway, const char *own, char ret[IP_TEXT_SIZE])
{
	char text[IP_TEXT_SIZE] = "";

	if (gateway->family)
		ip_format(gateway, text);
	if (text[0] && strcmp(text, own) == 0)
		memcpy(ret, text, IP_TEXT_SIZE);
}

void router_actor_gateway(struct agent *agent, const char *network_uid, const struct ip *gateway4,
			  const struct ip *gateway6, char ret4[IP_TEXT_SIZE],
			  char ret6[IP_TEXT_SIZE])
{
	struct router_actor *actor, *next;

	ret4[0] = ret6[0] = '\0';
	ACTORS_EACH(agent, ACTOR_ROUTER, actor, next)
	{
		const struct router_network *joined =
			wanted(actor) ? router_find_network(&actor->want->spec, network_uid) : NULL;

		if (!joined)
			continue;
		take_gateway(gateway4, joined->ipv4, ret4);
		take_gateway(gateway6, joined->ipv6, ret6);
	}
}

void router_actors_each(struct agent *agent, router_fn fn, void *data)
{
	struct router_actor *actor, *next;

	ACTORS_EACH(agent, ACTOR_ROUTER, actor, next)
	{
		if (wanted(actor))
			fn(actor->want, actor->made, data);
	}
}

const struct actor_ops router_actor_ops = { .kind = "router",
					    .size = sizeof(struct router_actor),
					    .init = init,
					    .assign = assign,
					    .unwant = unwant,
					    .done = release };
