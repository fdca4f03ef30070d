#include "world.h"

#include "base/strbuf.h"
#include "base/strv.h"
#include "flaky.h"

static void test_first_start(void **state)
{
	AUTO(json_decref) json_t *network = NULL;
	struct world world;

	(void) state;
	world_init(&world);
	assert_int_equal(world_count(&world, KIND_PROJECT), 1);
	assert_int_equal(world_count(&world, KIND_NODE), 1);
	assert_int_equal(
		control_get(world.control, KIND_NETWORK, "default", "default", &network, NULL), 0);
	assert_string_equal(member(network, "spec", "ipv4"), "10.90.0.0/24");
	assert_string_equal(member(network, "spec", "gateway4"), "10.90.0.1");
	assert_memory_equal(member(network, "spec", "ipv6"), "fd", 2);
	world_restart(&world);
	assert_int_equal(world_count(&world, KIND_NETWORK), 1);
	assert_string_equal(world_show(&world, KIND_NODE, "local", "state"), "offline");
	world_hello(&world);
	world_settle(&world);
	assert_string_equal(world_show(&world, KIND_NODE, "local", "state"), "online");
	assert_string_equal(world_show(&world, KIND_NETWORK, "default", "state"), "ready");
	world_done(&world);
}

static void test_launch_and_delete(void **state)
{
	AUTO(json_decref) json_t *doc = NULL;
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	world_settle(&world);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\",\"publish\":"
					      "[{\"host_port\":8080,\"port\":80}]}"),
			 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	assert_int_equal(control_get(world.control, KIND_INSTANCE, "default", "a", &doc, NULL), 0);
	assert_string_equal(member(doc, "status", "state"), "running");
	assert_string_equal(member(doc, "spec", "image_name"), "registry.test/web:latest");
	const json_t *addresses =
		json_array_get(json_object_get(json_object_get(doc, "spec"), "ports"), 0);
	assert_string_equal(json_string_value(json_object_get(addresses, "ipv4")), "10.90.0.2");
	assert_string_equal(json_string_value(json_object_get(addresses, "mac")),
			    "02:62:0a:5a:00:02");
	assert_int_equal(world_keys(&world, "/address/"), 2);
	assert_int_equal(world_keys(&world, "/hostport/local/tcp/8080/*"), 1);
	assert_int_equal(world_keys(&world, "/imageuse/"), 1);

	assert_int_equal(world_delete(&world, "a", false), -EBUSY);
	assert_non_null(strstr(world.err.msg, "is running"));
	assert_int_equal(world_delete(&world, "a", true), 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	assert_int_equal(world_count(&world, KIND_INSTANCE), 0);
	assert_int_equal(world_count(&world, KIND_IMAGE), 1);
	assert_int_equal(world_keys(&world, "/address/"), 0);
	assert_int_equal(world_keys(&world, "/hostport/"), 0);
	assert_int_equal(world_keys(&world, "/imageuse/"), 0);
	assert_int_equal(world.thing_count, 3); /* network, group and image */
	world_done(&world);
}

/* The warm path: one commit for the request, one for the result. */
static void test_launch_is_two_commits(void **state)
{
	struct world world;
	uint64_t before;

	(void) state;
	world_init(&world);
	world_hello(&world);
	assert_int_equal(world_pull(&world, "web"), 0);
	world_settle(&world);
	before = control_revision(world.control);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\"}"), 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	assert_int_equal(control_revision(world.control) - before, 2);
	world_done(&world);
}

static void test_refusals(void **state)
{
	static const struct {
		const char *body;
		int result;
		const char *word;
	} cases[] = {
		{ "{\"image\":\"web\",\"name\":\"a\"}", -EEXIST, "exists already" },
		{ "{\"image\":\"web\",\"ports\":[{\"network\":\"nix\"}]}", -ENOENT,
		  "network \"nix\"" },
		{ "{\"image\":\"web\",\"publish\":[{\"host_port\":80,\"port\":80}]}", -EEXIST,
		  "port 80/tcp is already published by instance \"a\"" },
		{ "{\"image\":\"web\",\"publish\":[{\"host_ip\":\"127.0.0.1\",\"host_port\":80,"
		  "\"port\":80}]}",
		  -EEXIST, "port 80/tcp" },
		{ "{\"image\":\"other\",\"pull\":\"never\"}", -ENOENT, "pull is \"never\"" },
		{ "{\"image\":\"web\",\"ports\":[],\"publish\":[{\"host_port\":1,\"port\":"
		  "1}]}",
		  -EINVAL, "without a network" },
		{ "{\"image\":\"not a reference!\"}", -EINVAL, "" },
	};
	struct world world;
	uint64_t revision;

	(void) state;
	world_init(&world);
	world_hello(&world);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\",\"publish\":"
					      "[{\"host_port\":80,\"port\":80}]}"),
			 0);
	world_settle(&world);
	revision = control_revision(world.control);
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		assert_int_equal(world_launch(&world, cases[i].body), cases[i].result);
		assert_non_null(strstr(world.err.msg, cases[i].word));
	}
	assert_int_equal(world_delete(&world, "nobody", false), -ENOENT);
	control_instance_delete(world.control, "default", "a", true, 1, world_answer, &world);
	world_await(&world);
	assert_int_equal(world.result, -ESTALE);
	control_image_delete(world.control, "default", "web", 0, world_answer, &world);
	world_await(&world);
	assert_int_equal(world.result, -EBUSY);
	assert_non_null(strstr(world.err.msg, "used by instance a"));
	control_network_delete(world.control, "default", "default", 0, world_answer, &world);
	world_await(&world);
	assert_int_equal(world.result, -EBUSY);
	assert_non_null(strstr(world.err.msg, "used by instance a"));
	world_settle(&world);
	assert_int_equal(control_revision(world.control), revision);
	/* Another protocol and another port are free. */
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"publish\":[{\"host_port\":80,"
					      "\"port\":80,\"protocol\":\"udp\"}]}"),
			 0);
	world_done(&world);
}

static void expect_nothing_left(struct world *world)
{
	assert_int_equal(world_count(world, KIND_INSTANCE), 0);
	assert_int_equal(world_keys(world, "/address/"), 0);
	assert_int_equal(world_keys(world, "/hostport/"), 0);
	assert_int_equal(world_keys(world, "/imageuse/"), 0);
}

static void test_failed_launch_leaves_nothing(void **state)
{
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	assert_int_equal(world_launch(&world, "{\"image\":\"missing\"}"), 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "failed");
	assert_string_equal(world_operation(&world, "error"), "the registry does not have it");
	expect_nothing_left(&world);
	assert_int_equal(world_count(&world, KIND_IMAGE), 0);

	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"command\":[\"fail\"]}"), 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "failed");
	assert_string_equal(world_operation(&world, "error"), "exec: not found");
	expect_nothing_left(&world);
	assert_int_equal(world_count(&world, KIND_IMAGE), 1); /* it was pulled well */
	world_done(&world);
}

/* What is gone is remembered by the one operation that has taken it away. */
static void expect_deletion(struct world *world, const char *name, const char *state,
			    json_int_t exit_code)
{
	AUTO(json_decref) json_t *list = NULL;
	json_t *one, *found = NULL;
	size_t i;

	assert_int_equal(control_list(world->control, KIND_OPERATION, "default", true, &list, NULL),
			 0);
	json_array_foreach(list, i, one)
	{
		const json_t *spec = json_object_get(one, "spec");

		if (strcmp(member(one, "spec", "action"), "delete") != 0 ||
		    strcmp(member(spec, "target", "name"), name) != 0)
			continue;
		assert_null(found);
		found = one;
	}
	assert_non_null(found);
	assert_string_equal(member(found, "status", "state"), state);
	found = json_object_get(json_object_get(found, "status"), "result");
	assert_int_equal(json_integer_value(json_object_get(found, "exit_code")), exit_code);
	assert_non_null(found);
}

static void test_exit_at_once_and_remove(void **state)
{
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	assert_int_equal(
		world_launch(&world, "{\"image\":\"web\",\"name\":\"a\",\"command\":[\"true\"]}"),
		0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	assert_string_equal(world_show(&world, KIND_INSTANCE, "a", "state"), "stopped");
	assert_int_equal(world_delete(&world, "a", false), 0);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"command\":[\"true\"],"
					      "\"name\":\"b\",\"remove_on_exit\":true}"),
			 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	expect_nothing_left(&world);
	expect_deletion(&world, "b", "done", 0);
	world_done(&world);
}

static void expect_action(struct world *world, enum instance_action action, const char *state)
{
	assert_int_equal(world_action(world, "a", action), 0);
	world_settle(world);
	assert_string_equal(world_operation(world, "state"), "done");
	assert_string_equal(world_show(world, KIND_INSTANCE, "a", "state"), state);
}

static void test_actions(void **state)
{
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\",\"start\":false}"),
			 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	assert_string_equal(world_show(&world, KIND_INSTANCE, "a", "state"), "stopped");
	expect_action(&world, INSTANCE_START, "running");
	expect_action(&world, INSTANCE_START, "running"); /* it is so already */
	expect_action(&world, INSTANCE_PAUSE, "paused");
	assert_int_equal(world_action(&world, "a", INSTANCE_START), -EBUSY);
	expect_action(&world, INSTANCE_RESUME, "running");
	expect_action(&world, INSTANCE_RESTART, "running");
	expect_action(&world, INSTANCE_STOP, "stopped");
	expect_action(&world, INSTANCE_STOP, "stopped");
	assert_int_equal(world_action(&world, "a", INSTANCE_PAUSE), -EBUSY);
	assert_int_equal(world_action(&world, "a", INSTANCE_RESUME), -EBUSY);
	expect_action(&world, INSTANCE_RESTART, "running");
	world_done(&world);
}

/* A stop that comes before the start was carried out ends both operations. */
static void test_stop_before_started(void **state)
{
	AUTO(json_decref) json_t *launch = NULL;
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	world.node_works = false;
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\"}"), 0);
	launch = json_incref(world.operation);
	assert_int_equal(world_action(&world, "a", INSTANCE_STOP), 0);
	world.node_works = true;
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	assert_string_equal(
		world_show(&world, KIND_OPERATION, member(launch, "meta", "name"), "state"),
		"done");
	world_done(&world);
}

static void cancel(struct world *world)
{
	AUTO(free) char *id = mem_strdup(operation_id(world));

	control_operation_cancel(world->control, "default", id, world_answer, world);
	world_await(world);
}

static void test_cancel(void **state)
{
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	world.slow_pull = true;
	assert_int_equal(world_launch(&world, "{\"image\":\"web\"}"), 0);
	world_pass(&world, 1000);
	assert_string_equal(world_operation(&world, "state"), "running");
	cancel(&world);
	assert_int_equal(world.result, 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "cancelled");
	expect_nothing_left(&world);
	assert_int_equal(world_count(&world, KIND_IMAGE), 0);
	cancel(&world);
	assert_int_equal(world.result, -EBUSY);

	assert_int_equal(world_pull(&world, "web"), 0);
	world_pass(&world, 1000);
	cancel(&world);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "cancelled");
	assert_int_equal(world_count(&world, KIND_IMAGE), 0);
	world_done(&world);
}

static void test_progress_is_four_writes_a_second(void **state)
{
	struct world world;
	uint64_t before;

	(void) state;
	world_init(&world);
	world_hello(&world);
	world.slow_pull = true;
	assert_int_equal(world_launch(&world, "{\"image\":\"web\"}"), 0);
	world_settle(&world);
	before = control_revision(world.control);
	for (int i = 0; i < 200; i++) {
		for (size_t k = 0; k < world.thing_count; k++)
			world.things[k].named = true;
		world_pass(&world, 5);
	}
	assert_in_range(control_revision(world.control) - before, 3, 4);
	AUTO(json_decref) json_t *doc = NULL;
	assert_int_equal(control_get(world.control, KIND_OPERATION, "default", operation_id(&world),
				     &doc, NULL),
			 0);
	const json_t *progress = json_object_get(json_object_get(doc, "status"), "progress");
	assert_int_equal(json_integer_value(json_object_get(progress, "total_bytes")), 5000000);
	world.slow_pull = false;
	world_pass(&world, 1000);
	assert_string_equal(world_operation(&world, "state"), "done");
	world_done(&world);
}

static void expect_same_text(struct world *world)
{
	AUTO(strbuf_done) struct strbuf text = {};
	AUTO(json_decref) json_t *list = NULL;

	assert_int_equal(control_list(world->control, KIND_INSTANCE, "default", true, &list, NULL),
			 0);
	assert_int_equal(control_list_text(world->control, KIND_INSTANCE, "default", &text, NULL),
			 0);
	AUTO(json_decref) json_t *parsed = json_loads(strbuf_str(&text), 0, NULL);
	assert_true(json_equal(list, parsed));
}

/* The kept text is what encoding anew gives, whatever changes. */
static void test_list_text(void **state)
{
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	expect_same_text(&world);
	for (int i = 0; i < 3; i++)
		assert_int_equal(world_launch(&world, "{\"image\":\"web\"}"), 0);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\"}"), 0);
	expect_same_text(&world);
	world_settle(&world);
	expect_same_text(&world);
	world.slow_create = true;
	assert_int_equal(world_action(&world, "a", INSTANCE_RESTART), 0);
	expect_same_text(&world);
	world_settle(&world);
	expect_same_text(&world);
	world_pass(&world, 300);
	expect_same_text(&world);
	control_node_lost(world.control, "local");
	world.connected = false;
	expect_same_text(&world);
	world_settle(&world);
	expect_same_text(&world);
	world_done(&world);
}

/* A passing status is shown at once, though it is written later or never. */
static void test_newest_status_is_shown(void **state)
{
	struct control_location location;
	struct world world;
	uint64_t revision;

	(void) state;
	world_init(&world);
	world_hello(&world);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\"}"), 0);
	world_settle(&world);
	assert_int_equal(
		control_locate(world.control, KIND_INSTANCE, "default", "a", &location, NULL), 0);
	assert_true(location.running);
	revision = control_revision(world.control);
	world.slow_create = true;
	assert_int_equal(world_action(&world, "a", INSTANCE_RESTART), 0);
	world_settle(&world);
	assert_int_equal(control_revision(world.control), revision + 1);
	assert_string_equal(world_show(&world, KIND_INSTANCE, "a", "state"), "creating");
	assert_int_equal(
		control_locate(world.control, KIND_INSTANCE, "default", "a", &location, NULL), 0);
	assert_false(location.running);
	world_pass(&world, 300);
	assert_int_equal(control_revision(world.control), revision + 2);
	assert_string_equal(world_operation(&world, "state"), "running");
	world.slow_create = false;
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	world_done(&world);
}

static void test_pull_and_prune(void **state)
{
	AUTO(json_decref) json_t *doc = NULL;
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	assert_int_equal(world_pull(&world, "web"), 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	assert_int_equal(control_get(world.control, KIND_IMAGE, "default", "web", &doc, NULL), 0);
	assert_null(member(doc, "spec", "password"));
	assert_int_equal(world_pull(&world, "web"), 0); /* again */
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	assert_int_equal(world_pull(&world, "missing"), 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "failed");
	assert_int_equal(world_count(&world, KIND_IMAGE), 1);
	assert_int_equal(world_pull(&world, "db"), 0);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\"}"), 0);
	world_settle(&world);
	control_image_prune(world.control, "default", world_answer, &world);
	world_await(&world);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	assert_int_equal(world_count(&world, KIND_IMAGE), 1);
	world_done(&world);
}

static void test_import(void **state)
{
	struct control_location location;
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	control_image_import(world.control, "default",
			     &(const struct image_import_request){ .name = "mine" }, world_answer,
			     &world);
	world_await(&world);
	assert_int_equal(world.result, 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "running");
	assert_int_equal(
		control_locate(world.control, KIND_IMAGE, "default", "mine", &location, NULL), 0);
	assert_non_null(world_thing(&world, location.uid));
	/* brumed dies in the middle of the upload. */
	world_restart(&world);
	world_hello(&world);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "failed");
	assert_int_equal(world_count(&world, KIND_IMAGE), 0);
	world_done(&world);
}

static void test_networks(void **state)
{
	AUTO(network_request_free) struct network_request *request = network_request_new();
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	request->name = mem_strdup("blue");
	control_network_create(world.control, "default", request, world_answer, &world);
	world_await(&world);
	assert_int_equal(world.result, 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	control_network_create(world.control, "default", request, world_answer, &world);
	world_await(&world);
	assert_int_equal(world.result, -EEXIST);
	mem_replace(&request->name, "red");
	assert_int_equal(subnet_parse("10.90.0.0/16", 4, "ipv4", &request->spec.ipv4, NULL), 0);
	control_network_create(world.control, "default", request, world_answer, &world);
	world_await(&world);
	assert_int_equal(world.result, -EEXIST);
	assert_non_null(strstr(world.err.msg, "overlaps"));
	assert_int_equal(
		world_launch(
			&world,
			"{\"image\":\"web\",\"name\":\"a\",\"ports\":[{\"network\":\"blue\"}]}"),
		0);
	world_settle(&world);
	assert_int_equal(world_delete(&world, "a", true), 0);
	world_settle(&world);
	control_network_delete(world.control, "default", "blue", 0, world_answer, &world);
	world_await(&world);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	assert_int_equal(world_count(&world, KIND_NETWORK), 1);
	world_done(&world);
}

static void test_offline(void **state)
{
	struct control_location location;
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\"}"), 0);
	world_settle(&world);
	control_node_lost(world.control, "local");
	world.connected = false;
	world_settle(&world);
	assert_string_equal(world_show(&world, KIND_INSTANCE, "a", "state"), "unknown");
	assert_int_equal(
		control_locate(world.control, KIND_INSTANCE, "default", "a", &location, &world.err),
		-ENOTCONN);
	assert_int_equal(world_delete(&world, "a", true), 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "running");
	world_hello(&world);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	expect_nothing_left(&world);
	world_done(&world);
}

static void test_old_operations_go(void **state)
{
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	assert_int_equal(world_pull(&world, "web"), 0);
	world_settle(&world);
	world_pass(&world, 3500 * 1000);
	assert_int_equal(world_count(&world, KIND_OPERATION), 1);
	world_pass(&world, 300 * 1000);
	assert_int_equal(world_count(&world, KIND_OPERATION), 0);
	for (int i = 0; i < 1200; i++)
		assert_int_equal(world_pull(&world, "web"), 0);
	world_settle(&world);
	world_pass(&world, 61 * 1000);
	assert_in_range(world_count(&world, KIND_OPERATION), 1, 1000);
	world_done(&world);
}

struct follower {
	unsigned int created, updated, deleted;
	uint64_t last;
	int ended;
	bool waited;
};

static void on_event(const struct event *event, void *data)
{
	struct follower *follower = data;

	assert_true(event->revision > follower->last);
	assert_string_equal(event->name, "a");
	follower->last = event->revision;
	follower->created += event->action == EVENT_CREATED;
	follower->updated += event->action == EVENT_UPDATED;
	follower->deleted += event->action == EVENT_DELETED;
}

static void on_ended(int result, const struct error *err, void *data)
{
	(void) err;
	((struct follower *) data)->ended = result;
}

static void on_waited(const json_t *operation, void *data)
{
	assert_string_equal(member(operation, "status", "state"), "done");
	((struct follower *) data)->waited = true;
}

static void test_follow_and_wait(void **state)
{
	struct control_filter filter = { "default", KIND_INSTANCE, "a" };
	struct control_subscription *live, *late, *stale;
	struct follower follower = {}, again = {}, old = {};
	struct control_wait *wait;
	struct world world;
	uint64_t cursor;

	(void) state;
	world_init(&world);
	world_hello(&world);
	world_settle(&world);
	cursor = control_revision(world.control);
	assert_int_equal(control_subscribe(world.control, 0, &filter, on_event, on_ended, &follower,
					   &live, NULL),
			 0);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\"}"), 0);
	assert_int_equal(control_operation_wait(world.control, "default", operation_id(&world), 0,
						on_waited, &follower, &wait, NULL),
			 0);
	assert_false(follower.waited);
	world_settle(&world);
	assert_true(follower.waited);
	control_wait_free(wait);
	follower.waited = false;
	assert_int_equal(control_operation_wait(world.control, "default", operation_id(&world), 0,
						on_waited, &follower, &wait, NULL),
			 0);
	assert_false(follower.waited);
	world_settle(&world);
	assert_true(follower.waited);
	control_wait_free(wait);
	assert_int_equal(world_delete(&world, "a", true), 0);
	world_settle(&world);
	assert_int_equal(follower.created, 1);
	assert_int_equal(follower.updated, 2);
	assert_int_equal(follower.deleted, 1);
	assert_int_equal(control_subscribe(world.control, cursor, &filter, on_event, on_ended,
					   &again, &late, NULL),
			 0);
	world_settle(&world);
	assert_int_equal(again.created + again.updated + again.deleted, 4);
	store_compact(world.store, control_revision(world.control), NULL, NULL);
	assert_int_equal(control_subscribe(world.control, cursor, &filter, on_event, on_ended, &old,
					   &stale, NULL),
			 0);
	world_settle(&world);
	assert_int_equal(old.ended, -ESTALE);
	control_subscription_free(live);
	control_subscription_free(late);
	control_subscription_free(stale);
	world_done(&world);
}

/* The node has something that nobody wants, and lacks something it is said to have. */
static void test_strange_status(void **state)
{
	struct thing ghost = { .kind = KIND_INSTANCE, .uid = "0123456789abcdef0123456789abcdef" };
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\"}"), 0);
	world_settle(&world);
	unsigned int forgets = world.forgets, messages = world.messages;
	world_status(&world, &ghost, json_pack("{s:s}", "state", "running"));
	assert_int_equal(world.forgets, forgets + 1);
	for (size_t i = 0; i < world.thing_count; i++)
		if (world.things[i].kind == KIND_INSTANCE)
			ghost = world.things[i];
	world_status(&world, &ghost, json_pack("{s:s}", "state", "gone"));
	assert_int_equal(world.messages, messages + 1);
	world_settle(&world);
	assert_string_equal(world_show(&world, KIND_INSTANCE, "a", "state"), "running");
	AUTO(json_decref)
	json_t *bad = json_pack("{s:s, s:s, s:{s:s}}", "kind", "instance", "uid", ghost.uid,
				"status", "state", "dancing");
	assert_true(control_node_status(world.control, "local", bad, &world.err) < 0);
	world_done(&world);
}

/* The store refuses writes: requests fail and change nothing, what follows is tried again. */
static void test_store_that_fails(void **state)
{
	struct flaky *flaky;
	struct world world;
	uint64_t revision;

	(void) state;
	world_init(&world);
	control_free(TAKE_PTR(world.control));
	flaky = flaky_new(world.store);
	world.store = &flaky->base;
	world_start(&world);
	world_hello(&world);
	world_settle(&world);
	revision = control_revision(world.control);
	flaky->fail_writes = 1;
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\"}"), -ENOENT);
	assert_true(strlen(world.err.msg) > 0);
	world_settle(&world);
	assert_int_equal(control_revision(world.control), revision);
	assert_int_equal(world.thing_count, 2);

	world.node_works = false;
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\"}"), 0);
	flaky->fail_writes = 5;
	world.node_works = true;
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "running");
	world_pass(&world, 10000);
	assert_string_equal(world_operation(&world, "state"), "done");
	world_done(&world);
}

static void touched(const struct store_result *result, void *data)
{
	(void) data;
	assert_int_equal(result->error, 0);
}

/* Somebody else writes to the same resource at the same time: tried again with what is there now.
 */
static void test_other_writer(void **state)
{
	AUTO(json_decref) json_t *doc = NULL;
	struct store_txn txn = {};
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\"}"), 0);
	world_settle(&world);
	assert_int_equal(control_get(world.control, KIND_INSTANCE, "default", "a", &doc, NULL), 0);
	json_object_set_new(json_object_get(doc, "meta"), "labels",
			    json_pack("{s:s}", "by", "other"));
	json_object_del(json_object_get(doc, "meta"), "revision");
	AUTO(free) char *text = json_text(doc);
	store_ops_put(&txn.then, "/instance/default/a", text, 0);
	store_commit(world.store, &txn, touched, NULL);
	assert_int_equal(world_action(&world, "a", INSTANCE_STOP), 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	AUTO(json_decref) json_t *after = NULL;
	assert_int_equal(control_get(world.control, KIND_INSTANCE, "default", "a", &after, NULL),
			 0);
	assert_string_equal(member(after, "status", "state"), "stopped");
	assert_non_null(json_object_get(json_object_get(after, "meta"), "labels"));
	world_done(&world);
}

static void test_too_large(void **state)
{
	AUTO(launch_request_free) struct launch_request *request = launch_request_new();
	AUTO(json_decref) json_t *doc = NULL;
	char *big = mem_zalloc(300 * 1024);
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	memset(big, 'x', 300 * 1024 - 1);
	request->spec.image = mem_strdup("web");
	for (int i = 0; i < 3; i++)
		strv_append(&request->spec.command, big);
	control_instance_launch(world.control, "default", request, world_answer, &world);
	world_await(&world);
	assert_int_equal(world.result, -EMSGSIZE);
	/* A status that is too large is a failure. */
	world.node_works = false;
	assert_int_equal(world_pull(&world, "web"), 0);
	world_settle(&world);
	for (size_t i = 0; i < world.thing_count; i++)
		if (world.things[i].kind == KIND_IMAGE)
			world_status(&world, &world.things[i],
				     json_pack("{s:s, s:i, s:i, s:{s:[s]}}", "state", "ready",
					       "generation", 1, "pull_seq", 1, "config", "command",
					       big));
	world.node_works = true;
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "failed");
	assert_non_null(strstr(world_operation(&world, "error"), "too large"));
	free(big);
	world_done(&world);
}

/* A name that grows too long when it is completed is refused; it would be unreadable later. */
static void test_too_long(void **state)
{
	char body[700] = "{\"image\":\"";
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	for (int i = 0; i < 62; i++)
		strcat(body, i % 31 == 30 ? "a.a." : "bbb.");
	strcat(body, "museum/");
	for (int i = 0; i < 31; i++)
		strcat(body, "ccccccc/");
	strcat(body, "dddddd\"}");
	assert_int_equal(world_launch(&world, body), -EINVAL);
	world_settle(&world);
	world_restart(&world);
	assert_int_equal(world_count(&world, KIND_INSTANCE), 0);
	world_done(&world);
}

static void test_other_projects(void **state)
{
	struct control_filter filter = { NULL, -1, NULL };
	struct control_subscription *none;
	struct world world;
	json_t *doc;

	(void) state;
	world_init(&world);
	world_hello(&world);
	assert_int_equal(world_pull(&world, "web"), 0);
	world_settle(&world);
	assert_int_equal(control_get(world.control, KIND_IMAGE, "default/registry.test",
				     "web:latest", &doc, &world.err),
			 -ENOENT);
	assert_non_null(strstr(world.err.msg, "project"));
	control_image_prune(world.control, "other", world_answer, &world);
	world_await(&world);
	assert_int_equal(world.result, -ENOENT);
	assert_int_equal(control_subscribe(world.control, 1000000, &filter, on_event, on_ended,
					   &world, &none, NULL),
			 -ESTALE);
	world_done(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_start),
		cmocka_unit_test(test_launch_and_delete),
		cmocka_unit_test(test_launch_is_two_commits),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_failed_launch_leaves_nothing),
		cmocka_unit_test(test_exit_at_once_and_remove),
		cmocka_unit_test(test_actions),
		cmocka_unit_test(test_stop_before_started),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_progress_is_four_writes_a_second),
		cmocka_unit_test(test_list_text),
		cmocka_unit_test(test_newest_status_is_shown),
		cmocka_unit_test(test_pull_and_prune),
		cmocka_unit_test(test_import),
		cmocka_unit_test(test_networks),
		cmocka_unit_test(test_offline),
		cmocka_unit_test(test_old_operations_go),
		cmocka_unit_test(test_follow_and_wait),
		cmocka_unit_test(test_strange_status),
		cmocka_unit_test(test_store_that_fails),
		cmocka_unit_test(test_other_writer),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_other_projects),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
