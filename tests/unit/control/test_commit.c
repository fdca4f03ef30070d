#include "control/world.h"

/* Sends the body as the API would. */
static int commit(struct world *world, const char *body)
{
	AUTO(commit_request_free) struct commit_request *request = NULL;
	AUTO(json_decref) json_t *doc = json_loads(body, 0, NULL);

	assert_true(commit_request_is(doc));
	assert_int_equal(commit_request_decode(doc, &request, NULL), 0);
	control_image_commit(world->control, "default", request, world_answer, world);
	world_await(world);
	return world->result;
}

static const json_t *spec_of(struct world *world, const char *name, json_t **ret)
{
	assert_int_equal(control_get(world->control, KIND_IMAGE, "default", name, ret, NULL), 0);
	return json_object_get(json_object_get(*ret, "spec"), "commit");
}

static void test_what_the_launch_said_is_the_images(void **state)
{
	static const char *const wanted[] = { "ENTRYPOINT [\"sh\",\"-c\"]",
					      "CMD [\"echo \\\"x\\\"\"]",
					      "ENV [\"A=b c\"]",
					      "WORKDIR /srv",
					      "USER web",
					      "STOPSIGNAL SIGINT",
					      "ENV B=c" };
	AUTO(json_decref) json_t *image = NULL;
	struct world world;
	const json_t *spec, *changes;

	(void) state;
	world_init(&world);
	world_hello(&world);
	assert_int_equal(world_launch(&world,
				      "{\"image\":\"web\",\"name\":\"app\",\"entrypoint\":"
				      "[\"sh\",\"-c\"],\"command\":[\"echo \\\"x\\\"\"],\"env\":"
				      "{\"A\":\"b c\"},\"workdir\":\"/srv\",\"user\":\"web\","
				      "\"stop_signal\":\"SIGINT\"}"),
			 0);
	world_settle(&world);
	assert_int_equal(commit(&world, "{\"instance\":\"app\",\"name\":\"shop:2\",\"changes\":"
					"[\"ENV B=c\"],\"message\":\"m\",\"pause\":false}"),
			 0);
	assert_string_equal(world_operation(&world, "state"), "running");
	spec = spec_of(&world, "shop:2", &image);
	changes = json_object_get(spec, "changes");
	assert_int_equal(json_array_size(changes), ARRAY_COUNT(wanted));
	for (size_t i = 0; i < ARRAY_COUNT(wanted); i++)
		assert_string_equal(json_string_value(json_array_get(changes, i)), wanted[i]);
	assert_string_equal(json_string_value(json_object_get(spec, "instance")), "app");
	assert_string_equal(json_string_value(json_object_get(spec, "created_by")),
			    "sh -c echo \"x\"");
	assert_true(json_is_false(json_object_get(spec, "pause")));
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	assert_int_equal(world_count(&world, KIND_IMAGE), 2);
	world_done(&world);
}

static void test_refused(void **state)
{
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"app\"}"), 0);
	world_settle(&world);
	assert_int_equal(commit(&world, "{\"instance\":\"nobody\",\"name\":\"x\"}"), -ENOENT);
	assert_int_equal(commit(&world, "{\"instance\":\"app\",\"name\":\"mine:1\"}"), 0);
	assert_int_equal(commit(&world, "{\"instance\":\"app\",\"name\":\"mine:1\"}"), -EEXIST);
	assert_int_equal(commit(&world, "{\"instance\":\"app\",\"name\":\"A b\"}"), -EINVAL);
	assert_int_equal(commit(&world, "{\"instance\":\"app\",\"name\":\"x:.y\"}"), -EINVAL);
	assert_int_equal(world_count(&world, KIND_IMAGE), 2);
	world_done(&world);
}

/* Unlike an import, it is not brumed that has the bytes: the node goes on without it. */
static void test_it_outlives_brumed_and_can_be_cancelled(void **state)
{
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"app\"}"), 0);
	world_settle(&world);
	world.slow_pull = true;
	assert_int_equal(commit(&world, "{\"instance\":\"app\",\"name\":\"one\"}"), 0);
	world_restart(&world);
	world_hello(&world);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "running");
	world.slow_pull = false;
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");

	world.slow_pull = true;
	assert_int_equal(commit(&world, "{\"instance\":\"app\",\"name\":\"two\"}"), 0);
	world_settle(&world);
	AUTO(free) char *id = mem_strdup(operation_id(&world));
	control_operation_cancel(world.control, "default", id, world_answer, &world);
	world_await(&world);
	assert_int_equal(world.result, 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "cancelled");
	assert_int_equal(world_count(&world, KIND_IMAGE), 2);
	world_done(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_the_launch_said_is_the_images),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_it_outlives_brumed_and_can_be_cancelled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
