#include "model/balancer.h"
#include "world.h"

/* Load balancers: members that come and go, ports and addresses that are reserved, refusals. */

static int create(struct world *world, const char *body)
{
	AUTO(balancer_request_free) struct balancer_request *request = NULL;
	AUTO(json_decref) json_t *doc = json_loads(body, 0, NULL);

	assert_non_null(doc);
	if (balancer_request_decode(doc, &request, &world->err) < 0)
		fail_msg("%s", world->err.msg);
	control_balancer_create(world->control, "default", request, world_answer, world);
	world_await(world);
	return world->result;
}

static int update(struct world *world, const char *name, const char *text)
{
	AUTO(json_decref) json_t *patch = json_loads(text, 0, NULL);

	assert_non_null(patch);
	control_balancer_update(world->control, "default", name, patch, 0, world_answer, world);
	world_await(world);
	return world->result;
}

static int drain(struct world *world, const char *name, const char *instance, bool on)
{
	control_balancer_drain(world->control, "default", name, instance, on, 0, world_answer,
			       world);
	world_await(world);
	return world->result;
}

static int delete (struct world *world, const char *name)
{
	control_balancer_delete(world->control, "default", name, 0, world_answer, world);
	world_await(world);
	return world->result;
}

static json_t *show(struct world *world, const char *name)
{
	json_t *doc = NULL;

	assert_int_equal(
		control_get(world->control, KIND_BALANCER, "default", name, &doc, &world->err), 0);
	return doc;
}

static bool has_member(const json_t *members, const char *name)
{
	const json_t *member;
	size_t i;

	json_array_foreach(members, i, member)
	{
		if (strcmp(json_string_value(json_object_get(member, "instance")), name) == 0)
			return true;
	}
	return false;
}

/* What the node was told, and what people see: exactly these members, "a b". */
static void expect_members(struct world *world, const char *name, const char *names)
{
	AUTO(json_decref) json_t *doc = show(world, name);
	const json_t *spec = json_object_get(doc, "spec");
	const json_t *meta = json_object_get(doc, "meta");
	const json_t *members = json_object_get(spec, "members");
	const struct thing *thing =
		world_thing(world, json_string_value(json_object_get(meta, "uid")));
	AUTO(free) char *copy = mem_strdup(names);
	char *rest = copy, *one;
	size_t count = 0;

	while ((one = strsep(&rest, " ")))
		if (one[0]) {
			count++;
			if (!has_member(members, one))
				fail_msg("%s is no member", one);
		}
	assert_int_equal(json_array_size(members), count);
	assert_non_null(thing);
	assert_true(json_equal(
		members, json_object_get(json_object_get(thing->desired, "spec"), "members")));
}

static void launch(struct world *world, const char *name, const char *label)
{
	AUTO(free)
	char *body = mem_printf("{\"image\":\"web\",\"name\":\"%s\",\"labels\":{\"role\":\"%s\"}}",
				name, label);

	assert_int_equal(world_launch(world, body), 0);
	world_settle(world);
}

static void begin(struct world *world)
{
	world_init(world);
	world_hello(world);
	world_settle(world);
}

#define WEB "{\"name\":\"web\",\"selector\":\"role=web\",\"listen\":[{\"port\":80}]"

static void test_members_are_followed(void **state)
{
	AUTO(json_decref) json_t *patch = json_loads("{\"labels\":{\"role\":\"web\"}}", 0, NULL);
	struct world world;

	(void) state;
	begin(&world);
	launch(&world, "a", "web");
	launch(&world, "b", "db");
	assert_int_equal(create(&world, WEB "}"), 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	expect_members(&world, "web", "a");
	launch(&world, "c", "web");
	expect_members(&world, "web", "a c");
	/* Relabelled. */
	control_instance_update(world.control, "default", "b", patch, 0, world_answer, &world);
	world_await(&world);
	world_settle(&world);
	expect_members(&world, "web", "a b c");
	control_instance_rename(world.control, "default", "b", "d", 0, world_answer, &world);
	world_await(&world);
	world_settle(&world);
	expect_members(&world, "web", "a c d");
	/* From the moment it is to stop it gets nothing new. */
	world.node_works = false;
	assert_int_equal(world_action(&world, "a", INSTANCE_STOP), 0);
	world_settle(&world);
	expect_members(&world, "web", "c d");
	world.node_works = true;
	world_settle(&world);
	assert_int_equal(world_action(&world, "a", INSTANCE_START), 0);
	world_settle(&world);
	expect_members(&world, "web", "a c d");
	assert_int_equal(world_delete(&world, "c", true), 0);
	world_settle(&world);
	expect_members(&world, "web", "a d");
	/* What does not concern it is not told to the node. */
	unsigned int before = world.messages;
	launch(&world, "e", "db");
	assert_int_equal(world.messages, before + 1);
	world_restart(&world);
	world_hello(&world);
	world_settle(&world);
	expect_members(&world, "web", "a d");
	world_done(&world);
}

static void test_another_network(void **state)
{
	AUTO(network_request_free) struct network_request *network = network_request_new();
	struct world world;

	(void) state;
	begin(&world);
	mem_replace(&network->name, "back");
	control_network_create(world.control, "default", network, world_answer, &world);
	world_await(&world);
	launch(&world, "a", "web");
	assert_int_equal(world_launch(&world,
				      "{\"image\":\"web\",\"name\":\"b\",\"labels\":{"
				      "\"role\":\"web\"},\"ports\":[{\"network\":\"back\"}]}"),
			 0);
	world_settle(&world);
	assert_int_equal(create(&world, WEB ",\"network\":\"back\"}"), 0);
	world_settle(&world);
	expect_members(&world, "web", "b");
	/* A network is not deleted under it. */
	assert_int_equal(world_delete(&world, "b", true), 0);
	world_settle(&world);
	expect_members(&world, "web", "");
	control_network_delete(world.control, "default", "back", 0, world_answer, &world);
	world_await(&world);
	assert_int_equal(world.result, -EBUSY);
	assert_string_equal(
		world.err.msg,
		"network \"back\" is used by balancer \"web\": brume balancer delete web first");
	assert_int_equal(delete (&world, "web"), 0);
	world_settle(&world);
	control_network_delete(world.control, "default", "back", 0, world_answer, &world);
	world_await(&world);
	assert_int_equal(world.result, 0);
	world_settle(&world);
	assert_int_equal(world_count(&world, KIND_NETWORK), 1);
	world_done(&world);
}

static void expect_refusal(struct world *world, const char *body, int code, const char *words)
{
	assert_int_equal(create(world, body), code);
	if (!strstr(world->err.msg, words))
		fail_msg("\"%s\" is not in \"%s\"", words, world->err.msg);
}

static void test_refusals(void **state)
{
	AUTO(network_request_free) struct network_request *network = network_request_new();
	struct world world;

	(void) state;
	begin(&world);
	mem_replace(&network->name, "inside");
	network->spec.isolated = true;
	network->spec.nat = false;
	control_network_create(world.control, "default", network, world_answer, &world);
	world_await(&world);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\",\"publish\":[{"
					      "\"host_port\":80,\"port\":80,\"host_ip\":"
					      "\"192.0.2.1\"}]}"),
			 0);
	world_settle(&world);
	expect_refusal(&world, WEB "}", -EEXIST,
		       "port 80/tcp is already published by instance \"a\"");
	expect_refusal(&world, WEB ",\"network\":\"none-such\"}", -ENOENT,
		       "network: \"none-such\" does not exist");
	expect_refusal(&world, WEB ",\"network\":\"inside\"}", -EINVAL, "is isolated");
	expect_refusal(&world, WEB ",\"vip\":{\"ipv4\":\"10.99.0.1\"}}", -EINVAL,
		       "is outside of 10.90.0.0/24");
	expect_refusal(&world, WEB ",\"vip\":{\"ipv4\":\"10.90.0.1\"}}", -EINVAL,
		       "is the gateway of network");
	expect_refusal(&world, WEB ",\"vip\":{\"ipv4\":\"10.90.0.2\"}}", -EADDRINUSE,
		       "is taken by instance \"a\"");
	assert_int_equal(world_count(&world, KIND_BALANCER), 0);
	assert_int_equal(world_delete(&world, "a", true), 0);
	world_settle(&world);
	assert_int_equal(create(&world, WEB ",\"vip\":{\"ipv4\":\"10.90.0.9\"}}"), 0);
	world_settle(&world);
	expect_refusal(&world, WEB "}", -EEXIST, "balancer \"web\" exists already");
	expect_refusal(&world,
		       "{\"name\":\"two\",\"selector\":\"a\",\"listen\":[{\"port\":80,\"address\":"
		       "\"192.0.2.1\"}]}",
		       -EEXIST, "port 80/tcp is taken by balancer \"web\"");
	expect_refusal(&world,
		       "{\"name\":\"two\",\"selector\":\"a\",\"listen\":[{\"port\":81}],\"vip\":{"
		       "\"ipv4\":\"10.90.0.9\"}}",
		       -EADDRINUSE, "is taken by balancer \"web\"");
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"b\",\"publish\":[{"
					      "\"host_port\":80,\"port\":80}]}"),
			 -EEXIST);
	assert_string_equal(world.err.msg, "port 80/tcp is taken by balancer \"web\"");
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"b\",\"ports\":[{"
					      "\"network\":\"default\",\"ipv4\":\"10.90.0.9\"}]}"),
			 -EADDRINUSE);
	assert_string_equal(world.err.msg, "address 10.90.0.9 is taken by balancer \"web\"");
	world_done(&world);
}

static void test_ports_change_hands(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(create(&world, WEB "}"), 0);
	world_settle(&world);
	world.node_works = false;
	assert_int_equal(update(&world, "web", "{\"listen\":[{\"port\":81}]}"), 0);
	/* Until the node has let it go, it is not given to another. */
	expect_refusal(&world, "{\"name\":\"two\",\"selector\":\"a\",\"listen\":[{\"port\":80}]}",
		       -EEXIST, "taken by balancer \"web\"");
	world.node_works = true;
	world_settle(&world);
	assert_int_equal(
		create(&world, "{\"name\":\"two\",\"selector\":\"a\",\"listen\":[{\"port\":80}]}"),
		0);
	world_settle(&world);
	assert_int_equal(update(&world, "web", "{\"listen\":[{\"port\":80}]}"), -EEXIST);
	assert_int_equal(update(&world, "two",
				"{\"listen\":[{\"port\":80,\"address\":"
				"\"192.0.2.1\"}]}"),
			 -EEXIST);
	assert_non_null(strstr(world.err.msg, "its own already"));
	assert_int_equal(delete (&world, "two"), 0);
	world_settle(&world);
	assert_int_equal(update(&world, "web", "{\"listen\":[{\"port\":80},{\"port\":81}]}"), 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	world_done(&world);
}

static void test_what_the_node_refuses_is_taken_back(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	world.busy_port = 8000;
	assert_int_equal(
		create(&world,
		       "{\"name\":\"two\",\"selector\":\"a\",\"listen\":[{\"port\":8000}]}"),
		0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "failed");
	assert_string_equal(world_operation(&world, "error"), "a process has the port");
	assert_int_equal(world_count(&world, KIND_BALANCER), 0);
	assert_int_equal(create(&world, WEB "}"), 0);
	world_settle(&world);
	assert_int_equal(update(&world, "web", "{\"listen\":[{\"port\":8000}]}"), 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "failed");
	AUTO(json_decref) json_t *doc = show(&world, "web");
	const json_t *listen =
		json_array_get(json_object_get(json_object_get(doc, "spec"), "listen"), 0);
	assert_int_equal(json_integer_value(json_object_get(listen, "port")), 80);
	assert_string_equal(world_show(&world, KIND_BALANCER, "web", "state"), "down");
	/* Port 8000 is free again, 80 is not. */
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"b\",\"publish\":[{"
					      "\"host_port\":8000,\"port\":80}]}"),
			 0);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"c\",\"publish\":[{"
					      "\"host_port\":80,\"port\":80}]}"),
			 -EEXIST);
	world_done(&world);
}

static size_t count_drains(struct world *world)
{
	AUTO(json_decref) json_t *doc = show(world, "web");

	return json_array_size(json_object_get(json_object_get(doc, "spec"), "drains"));
}

static void test_drain(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	launch(&world, "a", "web");
	launch(&world, "b", "db");
	assert_int_equal(create(&world, WEB "}"), 0);
	world_settle(&world);
	assert_int_equal(drain(&world, "web", "b", true), -ENOENT);
	assert_non_null(strstr(world.err.msg, "is no member of balancer \"web\""));
	assert_int_equal(drain(&world, "web", "zz", true), -ENOENT);
	assert_int_equal(drain(&world, "nope", "a", true), -ENOENT);
	assert_int_equal(drain(&world, "web", "a", true), 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	assert_int_equal(count_drains(&world), 1);
	/* It is a member still, and drained still when it comes back. */
	expect_members(&world, "web", "a");
	assert_int_equal(world_action(&world, "a", INSTANCE_RESTART), 0);
	world_settle(&world);
	assert_int_equal(count_drains(&world), 1);
	assert_int_equal(drain(&world, "web", "a", false), 0);
	world_settle(&world);
	assert_int_equal(count_drains(&world), 0);
	assert_int_equal(drain(&world, "web", "a", true), 0);
	assert_int_equal(world_delete(&world, "a", true), 0);
	world_settle(&world);
	assert_int_equal(count_drains(&world), 0);
	world_done(&world);
}

/* Puts `count` more into the store that are as the instance `name`: launching them takes long. */
static void multiply(struct world *world, const char *name, int count)
{
	AUTO(store_txn_done) struct store_txn txn = {};
	AUTO(json_decref) json_t *doc = NULL;
	json_t *meta;

	assert_int_equal(control_get(world->control, KIND_INSTANCE, "default", name, &doc, NULL),
			 0);
	meta = json_object_get(doc, "meta");
	for (int i = 0; i < count; i++) {
		AUTO(free) char *key = mem_printf("/instance/default/more%d", i);
		AUTO(free) char *uid = mem_printf("%032x", i + 1);
		AUTO(free) char *text = NULL;

		json_object_set_new(meta, "name", json_string(strrchr(key, '/') + 1));
		json_object_set_new(meta, "uid", json_string(uid));
		text = json_text(doc);
		store_ops_put(&txn.then, key, text, 0);
	}
	store_commit(world->store, &txn, world_barrier_done, world);
	world_settle(world);
}

/* A thousand members are as many as a balancer has. */
static void test_too_many_members(void **state)
{
	AUTO(json_decref) json_t *doc = NULL;
	struct world world;

	(void) state;
	begin(&world);
	launch(&world, "a", "web");
	multiply(&world, "a", BALANCER_MEMBERS_MAX);
	assert_int_equal(create(&world, WEB "}"), -EINVAL);
	assert_string_equal(world.err.msg, "selector: 1001 instances match, a balancer has 1000 "
					   "members at most");
	/* With one less it is made. */
	control_instance_delete(world.control, "default", "a", true, 0, world_answer, &world);
	world_await(&world);
	world_settle(&world);
	assert_int_equal(create(&world, WEB "}"), 0);
	world_settle(&world);
	/* And one that comes later is none. */
	launch(&world, "b", "web");
	doc = show(&world, "web");
	assert_int_equal(json_array_size(json_object_get(json_object_get(doc, "spec"), "members")),
			 BALANCER_MEMBERS_MAX);
	world_done(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_members_are_followed),
		cmocka_unit_test(test_another_network),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_ports_change_hands),
		cmocka_unit_test(test_what_the_node_refuses_is_taken_back),
		cmocka_unit_test(test_drain),
		cmocka_unit_test(test_too_many_members),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
