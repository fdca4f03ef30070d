#include "world.h"

/* Limits of what runs: changed, refused by the node and taken back. */

static void update(struct world *world, const char *patch, uint64_t if_match)
{
	AUTO(json_decref) json_t *doc = json_loads(patch, 0, NULL);

	assert_non_null(doc);
	control_instance_update(world->control, "default", "a", doc, if_match, world_answer, world);
	world_await(world);
}

static json_t *show(struct world *world)
{
	json_t *doc = NULL;

	assert_int_equal(
		control_get(world->control, KIND_INSTANCE, "default", "a", &doc, &world->err), 0);
	return doc;
}

static json_int_t memory_of(struct world *world)
{
	AUTO(json_decref) json_t *doc = show(world);
	const json_t *limits = json_object_get(json_object_get(doc, "spec"), "limits");

	return json_integer_value(json_object_get(limits, "memory_bytes"));
}

static void begin(struct world *world)
{
	world_init(world);
	world_hello(world);
	assert_int_equal(world_launch(world, "{\"image\":\"web\",\"name\":\"a\",\"limits\":{"
					     "\"memory_bytes\":50000000}}"),
			 0);
	world_settle(world);
}

static void test_the_node_carries_it_out(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	update(&world, "{\"limits\":{\"memory_bytes\":60000000}}", 0);
	assert_int_equal(world.result, 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	assert_int_equal(memory_of(&world), 60000000);
	/* Labels are nothing to the node. */
	unsigned int messages = world.messages;
	update(&world, "{\"labels\":{\"x\":\"y\"}}", 0);
	assert_string_equal(world_operation(&world, "state"), "done");
	world_settle(&world);
	assert_int_equal(world.messages, messages);
	/* What it takes to undo it is not kept longer than the operation runs. */
	AUTO(json_decref) json_t *operation = NULL;
	assert_int_equal(control_get(world.control, KIND_OPERATION, "default", operation_id(&world),
				     &operation, NULL),
			 0);
	assert_null(json_object_get(json_object_get(operation, "spec"), "undo"));
	update(&world, "{\"limits\":{\"memory_bytes\":1}}", 0);
	assert_int_equal(world.result, -EINVAL);
	update(&world, "{\"labels\":{\"x\":null}}", 1);
	assert_int_equal(world.result, -ESTALE);
	update(&world, "{\"restart\":{\"policy\":\"always\"}}", 0);
	assert_int_equal(world.result, 0);
	world.node_works = false;
	assert_int_equal(world_delete(&world, "a", true), 0);
	update(&world, "{\"labels\":{\"x\":\"y\"}}", 0);
	assert_int_equal(world.result, -EBUSY);
	world_done(&world);
}

static void test_refused_is_taken_back(void **state)
{
	AUTO(free) char *first = NULL;
	struct world world;

	(void) state;
	begin(&world);
	world.memory_min = 40000000;
	update(&world, "{\"limits\":{\"memory_bytes\":10000000},\"env\":{\"A\":\"1\"}}", 0);
	assert_int_equal(world.result, 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "failed");
	assert_string_equal(world_operation(&world, "error"), "memory: it uses more");
	assert_int_equal(memory_of(&world), 50000000);
	AUTO(json_decref) json_t *doc = show(&world);
	assert_null(json_object_get(json_object_get(doc, "spec"), "env"));
	assert_null(member(doc, "status", "update_error"));
	assert_true(number(doc, "meta", "generation") == number(doc, "status", "generation"));
	/* Two at once: the older one's "before" counts. */
	world.node_works = false;
	update(&world, "{\"limits\":{\"memory_bytes\":10000000}}", 0);
	first = mem_strdup(operation_id(&world));
	update(&world, "{\"limits\":{\"memory_bytes\":20000000,\"pids\":9}}", 0);
	world.node_works = true;
	world_settle(&world);
	assert_string_equal(world_show(&world, KIND_OPERATION, first, "state"), "failed");
	assert_string_equal(world_operation(&world, "state"), "failed");
	assert_int_equal(memory_of(&world), 50000000);
	/* A later one that is right makes the earlier one right, too. */
	world.node_works = false;
	update(&world, "{\"limits\":{\"memory_bytes\":10000000}}", 0);
	update(&world, "{\"limits\":{\"memory_bytes\":45000000}}", 0);
	world.node_works = true;
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	assert_int_equal(memory_of(&world), 45000000);
	world_done(&world);
}

/* Wherever brumed dies: it is done, or as it was, and the node has it so. */
static void test_killed_between_any_two_steps(void **state)
{
	bool killed = true;

	(void) state;
	for (unsigned int step = 1; killed; step++) {
		AUTO(json_decref)
		json_t *good = json_loads("{\"limits\":{\"memory_bytes\":60000000}}", 0, NULL);
		AUTO(json_decref)
		json_t *bad = json_loads("{\"limits\":{\"memory_bytes\":10000000}}", 0, NULL);
		struct world world;

		begin(&world);
		world.memory_min = 40000000;
		world.kill_in = step;
		control_instance_update(world.control, "default", "a", bad, 0, world_answer,
					&world);
		world_settle(&world);
		control_instance_update(world.control, "default", "a", good, 0, world_answer,
					&world);
		world_settle(&world);
		killed = world.kills > 0;
		world_pass(&world, 3000);
		AUTO(json_decref) json_t *doc = show(&world);
		json_int_t memory = memory_of(&world);
		assert_true(memory == 60000000 || memory == 50000000);
		assert_true(number(doc, "meta", "generation") ==
			    number(doc, "status", "generation"));
		assert_null(member(doc, "status", "update_error"));
		world_done(&world);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_node_carries_it_out),
		cmocka_unit_test(test_refused_is_taken_back),
		cmocka_unit_test(test_killed_between_any_two_steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
