#include "world.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/file.h"

/* brumed is killed between any two steps, and a thousand instances come and go. */

static const char *const launches[] = {
	"{\"image\":\"web\",\"name\":\"a\",\"publish\":[{\"host_port\":80,\"port\":80}]}",
	"{\"image\":\"missing\",\"name\":\"b\",\"publish\":[{\"host_port\":81,\"port\":80}]}",
	"{\"image\":\"web\",\"name\":\"c\",\"command\":[\"fail\"]}",
	"{\"image\":\"web\",\"name\":\"d\",\"command\":[\"true\"],\"remove_on_exit\":true}",
	"{\"image\":\"db\"}",
};

static void start_launch(struct world *world, const char *body)
{
	AUTO(launch_request_free) struct launch_request *request = NULL;
	AUTO(json_decref) json_t *doc = json_loads(body, 0, NULL);

	assert_int_equal(launch_request_decode(doc, &request, NULL), 0);
	control_instance_launch(world->control, "default", request, world_answer, world);
}

/* Several things at once, then what follows. */
static void run_script(struct world *world)
{
	struct pull_request pull = { .reference = (char *) "tool" };

	for (size_t i = 0; i < ARRAY_COUNT(launches); i++)
		start_launch(world, launches[i]);
	control_image_pull(world->control, "default", &pull, world_answer, world);
	world_await(world);
	for (int i = 0; i < 20; i++) {
		world_node_step(world);
		world_barrier(world);
	}
	world_action(world, "a", INSTANCE_RESTART);
	world_delete(world, "c", true);
	control_instance_rename(world->control, "default", "a", "renamed", 0, world_answer, world);
	world_await(world);
	world_delete(world, "a", true);
	world_delete(world, "renamed", true);
	control_image_prune(world->control, "default", world_answer, world);
	world_await(world);
	control_image_import(world->control, "default",
			     &(const struct image_import_request){ .name = "mine" }, world_answer,
			     world);
	world_await(world);
	if (world->result == 0)
		control_operation_cancel(world->control, "default", operation_id(world),
					 world_answer, world);
}

static size_t count_ports(struct world *world)
{
	AUTO(json_decref) json_t *list = NULL;
	json_t *instance;
	size_t i, count = 0;

	assert_int_equal(control_list(world->control, KIND_INSTANCE, "default", true, &list, NULL),
			 0);
	json_array_foreach(list, i, instance) count +=
		json_array_size(json_object_get(json_object_get(instance, "spec"), "publish"));
	return count;
}

/* Every operation has ended, and what is reserved is what is there. */
static void check(struct world *world)
{
	size_t instances = world_count(world, KIND_INSTANCE);
	AUTO(json_decref) json_t *operations = NULL;
	json_t *operation;
	size_t i;

	assert_int_equal(
		control_list(world->control, KIND_OPERATION, "default", true, &operations, NULL),
		0);
	json_array_foreach(operations, i, operation)
	{
		const char *state = member(operation, "status", "state");

		if (strcmp(state, "running") == 0)
			fail_msg("%s has not ended", json_dumps(operation, 0));
		if (strcmp(state, "failed") == 0)
			assert_non_null(member(operation, "status", "error"));
	}
	assert_int_equal(world_keys(world, "/address/"), 2 * instances);
	assert_int_equal(world_keys(world, "/imageuse/"), instances);
	assert_int_equal(world_keys(world, "/hostport/"), count_ports(world));
	assert_int_equal(world->thing_count, instances + world_count(world, KIND_IMAGE) +
						     world_count(world, KIND_NETWORK) +
						     world_count(world, KIND_GROUP));
}

static bool run_killed_at(const char *path, unsigned int step, bool kill_store)
{
	struct world world;

	world_init_at(&world, path);
	world_hello(&world);
	world_settle(&world);
	world.kill_in = step;
	world.kill_store = kill_store;
	run_script(&world);
	world_settle(&world);
	bool killed = world.kills > 0;
	if (!killed) {
		world.kill_in = 0;
		/* A last one with everything at rest. */
		world_kill(&world);
	}
	world_pass(&world, 3000);
	check(&world);
	world_done(&world);
	return killed;
}

static void test_killed_between_any_two_steps(void **state)
{
	unsigned int step = 1;

	(void) state;
	while (run_killed_at(":memory:", step, false))
		step++;
	print_message("killed at each of %u steps\n", step - 1);
	assert_true(step > 20);
}

static void test_killed_with_the_store(void **state)
{
	const char *folder = *state;

	for (unsigned int step = 1; step < 60; step += 3) {
		AUTO(free) char *path = mem_printf("%s/%u.db", folder, step);

		run_killed_at(path, step, true);
	}
}

static void test_thousand_instances(void **state)
{
	enum { COUNT = 1000 };
	AUTO(network_request_free) struct network_request *request = network_request_new();
	struct world world;
	char body[200], name[32];

	(void) state;
	world_init(&world);
	world_hello(&world);
	request->name = mem_strdup("wide");
	assert_int_equal(subnet_parse("10.200.0.0/21", 4, "ipv4", &request->spec.ipv4, NULL), 0);
	assert_int_equal(subnet_parse("fd12::/64", 6, "ipv6", &request->spec.ipv6, NULL), 0);
	control_network_create(world.control, "default", request, world_answer, &world);
	world_await(&world);
	for (int i = 0; i < COUNT; i++) {
		snprintf(body, sizeof(body),
			 "{\"image\":\"web\",\"ports\":[{\"network\":\"wide\"}],\"name\":\"i%d\","
			 "\"publish\":"
			 "[{\"host_port\":%d,\"port\":80}]}",
			 i, 10000 + i);
		start_launch(&world, body);
	}
	world_settle(&world);
	assert_int_equal(world_count(&world, KIND_INSTANCE), COUNT);
	assert_int_equal(world_keys(&world, "/address/"), 2 * COUNT);
	assert_string_equal(world_show(&world, KIND_INSTANCE, "i999", "state"), "running");
	world_restart(&world);
	world_hello(&world);
	world_settle(&world);
	for (int i = 0; i < COUNT; i++) {
		snprintf(name, sizeof(name), "i%d", i);
		control_instance_delete(world.control, "default", name, true, 0, world_answer,
					&world);
		if (i % 100 == 50)
			world_restart(&world), world_hello(&world);
	}
	world_settle(&world);
	for (int i = 0; i < COUNT; i++) {
		snprintf(name, sizeof(name), "i%d", i);
		world_delete(&world, name, true); /* those whose request died with brumed */
	}
	world_settle(&world);
	world_pass(&world, 61 * 1000);
	assert_int_equal(world_count(&world, KIND_INSTANCE), 0);
	check(&world);
	world_done(&world);
}

/* The subnet has room for five: two of seven are refused, and room comes back. */
static void test_full_network(void **state)
{
	AUTO(network_request_free) struct network_request *request = network_request_new();
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	request->name = mem_strdup("tiny");
	assert_int_equal(subnet_parse("10.201.0.0/29", 4, "ipv4", &request->spec.ipv4, NULL), 0);
	control_network_create(world.control, "default", request, world_answer, &world);
	world_await(&world);
	for (int i = 0; i < 7; i++) {
		char body[100];

		snprintf(body, sizeof(body),
			 "{\"image\":\"web\",\"ports\":[{\"network\":\"tiny\"}],\"name\":\"i%d\"}",
			 i);
		start_launch(&world, body);
	}
	world_settle(&world);
	assert_int_equal(world_count(&world, KIND_INSTANCE), 5);
	assert_int_equal(
		world_launch(&world, "{\"image\":\"web\",\"ports\":[{\"network\":\"tiny\"}]}"),
		-EDQUOT);
	assert_int_equal(world_delete(&world, "i3", true), 0);
	world_settle(&world);
	assert_int_equal(
		world_launch(&world, "{\"image\":\"web\",\"ports\":[{\"network\":\"tiny\"}]}"), 0);
	world_done(&world);
}

int main(void)
{
	char folder[] = "/tmp/brume-simulation-XXXXXX";

	if (!mkdtemp(folder))
		return 1;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed_between_any_two_steps),
		cmocka_unit_test_prestate(test_killed_with_the_store, folder),
		cmocka_unit_test(test_thousand_instances),
		cmocka_unit_test(test_full_network),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	file_remove_tree(AT_FDCWD, folder);
	return failed;
}
