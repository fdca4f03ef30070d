#pragma once
/*
 * tests/unit/control/world.h - a world for control: a clock that is turned by hand, known random
 * numbers, a store in memory and a node that does what its images and commands tell it to.
 *
 * What the node has survives world_restart(), as a real node does.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <systemd/sd-event.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "control/control.h"
#include "model/image.h"
#include "model/instance.h"
#include "model/network.h"
#include "model/operation.h"
#include "store/sqlite.h"
#include "store/store.h"

enum { WORLD_THINGS_MAX = 4096 };

/* What the fake node has of one resource. */
struct thing {
	enum kind kind;
	char uid[UID_SIZE];
	json_t *desired;     /* NULL: told to forget */
	uint64_t generation; /* carried out */
	bool named;          /* by the assignment since the last hello */
};

struct world {
	struct clock clock; /* first: the callbacks get it */
	struct rng rng;
	int64_t realtime_ms;
	uint64_t monotonic_us;
	uint64_t random;
	sd_event *event;
	char *path;
	struct store *store;
	struct control *control;
	int state; /* 1 = starting */
	uint64_t timer_us;

	struct thing things[WORLD_THINGS_MAX];
	size_t thing_count;
	bool node_works;       /* carries out what it is told */
	bool slow_pull;        /* images stay "pulling" */
	bool slow_create;      /* instances stay "creating" */
	json_int_t memory_min; /* a memory limit below this is refused by the node */
	const char *broken;    /* a network that it cannot make ports on, a group it cannot make */
	json_int_t busy_port;  /* of the node, that no balancer gets */
	bool router_refused;   /* the node cannot make routers */
	bool connected;
	unsigned int messages; /* from control to the node */
	unsigned int forgets;

	unsigned int kill_in; /* steps until brumed dies; 0 = it does not */
	bool kill_store;      /* and the store with it (needs a store on disk) */
	unsigned int kills;

	bool answered; /* the last request */
	int result;
	struct error err;
	json_t *operation;
	unsigned int barriers;
};

static inline int64_t world_realtime(struct clock *clock)
{
	return ((struct world *) clock)->realtime_ms;
}

static inline uint64_t world_monotonic(struct clock *clock)
{
	return ((struct world *) clock)->monotonic_us;
}

static inline void world_fill(struct rng *rng, void *data, size_t size)
{
	struct world *world = (struct world *) ((char *) rng - offsetof(struct world, rng));
	unsigned char *p = data;

	for (size_t i = 0; i < size; i++) {
		world->random = world->random * 6364136223846793005u + 1442695040888963407u;
		p[i] = (unsigned char) (world->random >> 33);
	}
}

static inline struct thing *world_thing(struct world *world, const char *uid)
{
	for (size_t i = 0; i < world->thing_count; i++)
		if (strcmp(world->things[i].uid, uid) == 0)
			return &world->things[i];
	return NULL;
}

static inline void world_assign(const char *node, const json_t *resource, void *data)
{
	struct world *world = data;
	const char *uid =
		json_string_value(json_object_get(json_object_get(resource, "meta"), "uid"));
	struct thing *thing = world_thing(world, uid);

	assert_string_equal(node, "local");
	assert_null(json_object_get(resource, "status"));
	world->messages++;
	if (!thing) {
		assert_true(world->thing_count < WORLD_THINGS_MAX);
		thing = &world->things[world->thing_count++];
		*thing = (struct thing){};
		snprintf(thing->uid, sizeof(thing->uid), "%s", uid);
		assert_int_equal(kind_parse(json_string_value(json_object_get(resource, "kind")),
					    &thing->kind),
				 0);
	}
	json_decref(thing->desired);
	thing->desired = json_deep_copy(resource);
	thing->generation = 0;
	thing->named = true;
}

static inline void world_thing_remove(struct world *world, struct thing *thing)
{
	json_decref(thing->desired);
	*thing = world->things[--world->thing_count];
}

static inline void world_assigned_all(const char *node, void *data)
{
	struct world *world = data;

	(void) node;
	for (size_t i = world->thing_count; i > 0; i--)
		if (!world->things[i - 1].named)
			world_thing_remove(world, &world->things[i - 1]);
}

static inline void world_forget(const char *node, enum kind kind, const char *uid, void *data)
{
	struct world *world = data;
	struct thing *thing = world_thing(world, uid);

	(void) node;
	(void) kind;
	world->forgets++;
	if (thing)
		world_thing_remove(world, thing);
}

static inline void world_set_timer(uint64_t monotonic_us, void *data)
{
	((struct world *) data)->timer_us = monotonic_us;
}

static inline void world_state(int result, const struct error *err, void *data)
{
	struct world *world = data;

	world->state = result;
	if (err)
		world->err = *err;
}

static const struct control_ops world_ops = { world_assign, world_assigned_all, world_forget,
					      world_set_timer, world_state };

static inline void world_kill(struct world *world);

/* brumed dies here, if it is time. */
static inline void world_step(struct world *world)
{
	if (world->kill_in > 0 && --world->kill_in == 0)
		world_kill(world);
}

/* One round of the loop; a test that waits for what never comes fails instead of hanging. */
static inline void world_turn(struct world *world)
{
	int r = sd_event_run(world->event, 20 * 1000 * 1000);

	assert_true(r > 0);
	world_step(world);
}

static inline void world_barrier_done(const struct store_result *result, void *data)
{
	(void) result;
	((struct world *) data)->barriers++;
}

/* Everything that was asked of the store before has been answered. */
static inline void world_barrier(struct world *world)
{
	unsigned int before = world->barriers;
	struct store_txn nothing = {};

	store_commit(world->store, &nothing, world_barrier_done, world);
	while (world->barriers == before)
		world_turn(world);
}

static inline void world_open(struct world *world)
{
	struct store_sqlite_config config = { world->path, &world->clock, 0 };

	assert_int_equal(store_sqlite_open(world->event, &config, &world->store, &world->err), 0);
}

static inline void world_start(struct world *world)
{
	struct control_config config = { .clock = &world->clock,
					 .rng = &world->rng,
					 .store = world->store,
					 .default_registry = "registry.test" };

	world->state = 1;
	world->timer_us = UINT64_MAX;
	assert_int_equal(control_new(&config, &world_ops, world, &world->control, &world->err), 0);
	while (world->state == 1)
		world_turn(world);
	assert_int_equal(world->state, 0);
}

static inline void world_init_at(struct world *world, const char *path)
{
	*world = (struct world){ .clock = { world_realtime, world_monotonic },
				 .rng = { world_fill },
				 .realtime_ms = 1800000000000,
				 .monotonic_us = 1000000,
				 .random = 42,
				 .node_works = true };
	assert_true(sd_event_new(&world->event) >= 0);
	world->path = mem_strdup(path);
	world_open(world);
	world_start(world);
}

static inline void world_init(struct world *world)
{
	world_init_at(world, ":memory:");
}

static inline void world_hello(struct world *world)
{
	json_t *hello = json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:s}", "node", "local", "version",
				  "0.1.0", "kernel", "6.18", "cgroup", "v1", "cpus", 2,
				  "memory_bytes", 1000000000, "boot_id", "b");
	AUTO(free) char *node = NULL;

	for (size_t i = 0; i < world->thing_count; i++)
		world->things[i].named = false;
	world->connected = true;
	assert_int_equal(control_node_hello(world->control, hello, &node, &world->err), 0);
	json_decref(hello);
}

static inline void world_done(struct world *world)
{
	control_free(world->control);
	store_free(world->store);
	while (world->thing_count > 0)
		world_thing_remove(world, &world->things[0]);
	json_decref(world->operation);
	sd_event_unref(world->event);
	free(world->path);
}

/* brumed dies and starts again. */
static inline void world_restart(struct world *world)
{
	control_free(TAKE_PTR(world->control));
	world->connected = false;
	world_start(world);
}

static inline void world_kill(struct world *world)
{
	bool connected = world->connected;

	world->kills++;
	control_free(TAKE_PTR(world->control));
	if (world->kill_store) {
		store_free(TAKE_PTR(world->store));
		world_open(world);
	}
	world->connected = false;
	world_start(world);
	if (connected)
		world_hello(world);
}

/* ---- the node */

static inline void world_status(struct world *world, const struct thing *thing, json_t *status)
{
	json_t *body = json_pack("{s:s, s:s, s:o}", "kind", kind_name(thing->kind), "uid",
				 thing->uid, "status", status);
	struct error err = {};

	if (control_node_status(world->control, "local", body, &err) < 0)
		fail_msg("%s", err.msg);
	json_decref(body);
}

static inline const char *member(const json_t *desired, const char *part, const char *name)
{
	return json_string_value(json_object_get(json_object_get(desired, part), name));
}

static inline json_int_t number(const json_t *desired, const char *part, const char *name)
{
	return json_integer_value(json_object_get(json_object_get(desired, part), name));
}

static inline json_t *world_image_status(struct world *world, struct thing *thing)
{
	const char *reference = member(thing->desired, "spec", "reference");
	const char *platform = member(thing->desired, "spec", "platform");
	json_int_t seq = number(thing->desired, "spec", "pull_seq");

	if (member(thing->desired, "spec", "upload"))
		return NULL; /* its bytes have not come */
	if (strstr(reference, "missing"))
		return json_pack("{s:s, s:I, s:s}", "state", "failed", "pull_seq", seq, "error",
				 "the registry does not have it");
	if (world->slow_pull)
		return json_pack("{s:s, s:{s:I, s:i, s:s}}", "state", "pulling", "progress",
				 "done_bytes", (json_int_t) (world->monotonic_us / 1000 % 1000000),
				 "total_bytes", 5000000, "text", "layer 1 of 5");
	return json_pack("{s:s, s:I, s:s, s:i, s:s, s:s, s:o*}", "state", "ready", "pull_seq", seq,
			 "digest", "sha256:1234", "size_bytes", 1000, "os", "linux", "architecture",
			 platform ? strrchr(platform, '/') + 1 : "amd64", "disk",
			 strstr(reference, "disk") ? json_pack("{s:s, s:i}", "format", "raw",
							       "virtual_bytes", 1 << 20)
						   : NULL);
}

/* Is the image of an instance there? */
static inline bool world_image_ready(struct world *world, const struct thing *thing)
{
	const char *name = member(thing->desired, "spec", "image_name");

	for (size_t i = 0; i < world->thing_count; i++) {
		const struct thing *image = &world->things[i];

		if (image->kind == KIND_IMAGE && image->generation > 0 &&
		    strcmp(member(image->desired, "meta", "name"), name) == 0)
			return !strstr(name, "missing") && !world->slow_pull;
	}
	return false;
}

static inline json_t *world_instance_status(struct world *world, struct thing *thing)
{
	const char *target = member(thing->desired, "spec", "target");
	json_int_t seq = number(thing->desired, "spec", "start_seq");
	const json_t *command = json_object_get(json_object_get(thing->desired, "spec"), "command");
	const char *what = json_string_value(json_array_get(command, 0));

	if (strcmp(target, "stopped") == 0)
		return json_pack("{s:s, s:I}", "state", "stopped", "start_seq", seq);
	if (!world_image_ready(world, thing))
		return NULL;
	if (world->slow_create)
		return json_pack("{s:s}", "state", "creating");
	if (what && strcmp(what, "fail") == 0)
		return json_pack("{s:s, s:I, s:s}", "state", "failed", "start_seq", seq, "error",
				 "exec: not found");
	if (what && strcmp(what, "true") == 0)
		return json_pack("{s:s, s:I, s:i}", "state", "stopped", "start_seq", seq,
				 "exit_code", 0);
	const json_t *limits = json_object_get(json_object_get(thing->desired, "spec"), "limits");
	const json_t *memory = json_object_get(limits, "memory_bytes");
	json_t *status = json_pack("{s:s, s:I, s:i}", "state", target, "start_seq", seq, "pid", 77);
	if (memory && json_integer_value(memory) < world->memory_min)
		json_object_set_new(status, "update_error", json_string("memory: it uses more"));
	const json_t *ports = json_object_get(json_object_get(thing->desired, "spec"), "ports");
	for (size_t i = 0; world->broken && i < json_array_size(ports); i++) {
		const json_t *port = json_array_get(ports, i);

		if (strcmp(json_string_value(json_object_get(port, "network")), world->broken) ==
			    0 &&
		    !json_object_get(port, "leaving"))
			json_object_set_new(status, "ports_error", json_string("no such bridge"));
	}
	return status;
}

static inline json_t *world_balancer_status(struct world *world, struct thing *thing)
{
	const json_t *spec = json_object_get(thing->desired, "spec");
	const json_t *listen;
	size_t i;

	json_array_foreach(json_object_get(spec, "listen"), i, listen)
	{
		if (world->busy_port &&
		    json_integer_value(json_object_get(listen, "port")) == world->busy_port)
			return json_pack("{s:s, s:s}", "state", "failed", "error",
					 "a process has the port");
	}
	return json_pack("{s:s}", "state",
			 json_array_size(json_object_get(spec, "members")) > 0 ? "ready" : "down");
}

/* The node does one thing; false when nothing is left to do. */
static inline bool world_node_step(struct world *world)
{
	for (size_t i = 0; world->connected && world->node_works && i < world->thing_count; i++) {
		struct thing *thing = &world->things[i];
		json_t *status = NULL;

		if (thing->generation)
			continue;
		if (member(thing->desired, "meta", "deleted"))
			status = json_pack("{s:s}", "state", "gone");
		else if (thing->kind == KIND_NETWORK)
			status = json_pack("{s:s, s:s}", "state", "ready", "bridge", "brume-1");
		else if (thing->kind == KIND_GROUP && world->broken &&
			 strcmp(member(thing->desired, "meta", "name"), world->broken) == 0)
			status = json_pack("{s:s, s:s}", "state", "failed", "error", "too much");
		else if (thing->kind == KIND_GROUP)
			status = json_pack("{s:s}", "state", "ready");
		else if (thing->kind == KIND_ROUTER)
			status = world->router_refused ? json_pack("{s:s, s:s}", "state", "failed",
								   "error", "the port is in use")
						       : json_pack("{s:s}", "state", "ready");
		else if (thing->kind == KIND_IMAGE)
			status = world_image_status(world, thing);
		else if (thing->kind == KIND_BALANCER)
			status = world_balancer_status(world, thing);
		else
			status = world_instance_status(world, thing);
		if (!status)
			continue;
		const char *state = json_string_value(json_object_get(status, "state"));
		if (strcmp(state, "pulling") != 0 && strcmp(state, "creating") != 0) {
			thing->generation = (uint64_t) number(thing->desired, "meta", "generation");
			json_object_set_new(status, "generation",
					    json_integer((json_int_t) thing->generation));
		} else if (thing->named) {
			thing->named = false; /* said once */
		} else {
			json_decref(status);
			continue;
		}
		world_status(world, thing, status);
		world_step(world);
		return true;
	}
	return false;
}

/* Until nothing moves any more, at the present time. */
static inline void world_settle(struct world *world)
{
	for (int quiet = 0; quiet < 4;) {
		uint64_t revision = control_revision(world->control);
		unsigned int messages = world->messages;
		bool moved = world_node_step(world);

		world_barrier(world);
		if (moved || revision != control_revision(world->control) ||
		    messages != world->messages)
			quiet = 0;
		else
			quiet++;
	}
}

/* Time passes; timers that were asked for ring. */
static inline void world_pass(struct world *world, uint64_t ms)
{
	uint64_t end_us = world->monotonic_us + ms * 1000;

	world_settle(world);
	while (world->timer_us <= end_us) {
		if (world->timer_us > world->monotonic_us) {
			world->realtime_ms +=
				(int64_t) (world->timer_us - world->monotonic_us) / 1000;
			world->monotonic_us = world->timer_us;
		}
		control_tick(world->control);
		world_settle(world);
	}
	world->realtime_ms += (int64_t) (end_us - world->monotonic_us) / 1000;
	world->monotonic_us = end_us;
}

/* ---- requests */

static inline void world_answer(int result, const struct error *err, const json_t *operation,
				void *data)
{
	struct world *world = data;

	world->answered = true;
	world->result = result;
	world->err = result < 0 && err ? *err : (struct error){};
	json_decref(world->operation);
	world->operation = json_deep_copy(operation);
}

static inline void world_await(struct world *world)
{
	world->answered = false;
	while (!world->answered)
		world_turn(world);
}

static inline const char *operation_id(const struct world *world)
{
	return json_string_value(
		json_object_get(json_object_get(world->operation, "meta"), "name"));
}

/* {"image": ..} and what else a request has; answers with the result. */
static inline int world_launch(struct world *world, const char *body)
{
	AUTO(launch_request_free) struct launch_request *request = NULL;
	AUTO(json_decref) json_t *doc = json_loads(body, 0, NULL);

	assert_non_null(doc);
	if (launch_request_decode(doc, &request, &world->err) < 0)
		fail_msg("%s", world->err.msg);
	control_instance_launch(world->control, "default", request, world_answer, world);
	world_await(world);
	return world->result;
}

static inline int world_action(struct world *world, const char *name, enum instance_action action)
{
	struct action_request request = { action, -1, false };

	control_instance_action(world->control, "default", name, &request, 0, world_answer, world);
	world_await(world);
	return world->result;
}

static inline int world_delete(struct world *world, const char *name, bool force)
{
	control_instance_delete(world->control, "default", name, force, 0, world_answer, world);
	world_await(world);
	return world->result;
}

static inline int world_pull(struct world *world, const char *reference)
{
	struct pull_request request = { .reference = (char *) reference,
					.username = (char *) "me",
					.password = (char *) "secret" };

	control_image_pull(world->control, "default", &request, world_answer, world);
	world_await(world);
	return world->result;
}

/* A member of a status; NULL when the resource is not there. */
static inline const char *world_show(struct world *world, enum kind kind, const char *name,
				     const char *status_member)
{
	static char text[600];
	AUTO(json_decref) json_t *doc = NULL;
	const char *value;

	if (control_get(world->control, kind, "default", name, &doc, &world->err) < 0)
		return NULL;
	value = json_string_value(json_object_get(json_object_get(doc, "status"), status_member));
	snprintf(text, sizeof(text), "%s", value ? value : "");
	return text;
}

/* The state of the last request's operation. */
static inline const char *world_operation(struct world *world, const char *status_member)
{
	return world_show(world, KIND_OPERATION, operation_id(world), status_member);
}

static inline size_t world_count(struct world *world, enum kind kind)
{
	AUTO(json_decref) json_t *list = NULL;

	assert_int_equal(control_list(world->control, kind, "default", false, &list, NULL), 0);
	return json_array_size(list);
}

struct world_listing {
	size_t count;
	bool done;
};

static inline void world_listed(const struct store_result *result, void *data)
{
	struct world_listing *listing = data;

	listing->count = result->entry_count;
	listing->done = true;
}

/* Keys in the store, for leaks. */
static inline size_t world_keys(struct world *world, const char *prefix)
{
	struct world_listing listing = {};

	store_list(world->store, prefix, world_listed, &listing);
	while (!listing.done)
		world_turn(world);
	return listing.count;
}
