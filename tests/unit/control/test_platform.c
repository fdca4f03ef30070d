#include "world.h"

/* Launches that say for which platform an image is to be pulled. */

static const char *architecture(struct world *world)
{
	return world_show(world, KIND_IMAGE, "registry.test/web:latest", "architecture");
}

static void launch(struct world *world, const char *body)
{
	assert_int_equal(world_launch(world, body), 0);
	world_settle(world);
	assert_string_equal(world_operation(world, "state"), "done");
}

static void refused(struct world *world, const char *body, int result, const char *words)
{
	assert_int_equal(world_launch(world, body), result);
	if (!strstr(world->err.msg, words))
		fail_msg("'%s' is not in '%s'", words, world->err.msg);
}

static void test_platform_of_a_launch(void **state)
{
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	refused(&world, "{\"image\":\"web\",\"platform\":\"arm64\"}", -EINVAL,
		"platform: bad platform");
	assert_int_equal(world_count(&world, KIND_IMAGE), 0);
	launch(&world, "{\"image\":\"web\",\"platform\":\"linux/arm64\"}");
	assert_string_equal(architecture(&world), "arm64");
	/* Nothing said: whatever is here. */
	launch(&world, "{\"image\":\"web\"}");
	launch(&world, "{\"image\":\"web\",\"platform\":\"linux/arm64/v8\"}");
	refused(&world, "{\"image\":\"web\",\"platform\":\"linux/amd64\"}", -EEXIST,
		"is here for linux/arm64, not for linux/amd64");
	launch(&world, "{\"image\":\"web\",\"platform\":\"linux/amd64\",\"pull\":\"always\"}");
	assert_string_equal(architecture(&world), "amd64");
	world_done(&world);
}

static void test_platform_of_one_on_its_way(void **state)
{
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	world.slow_pull = true;
	assert_int_equal(world_launch(&world, "{\"image\":\"web\"}"), 0);
	refused(&world, "{\"image\":\"web\",\"platform\":\"linux/arm64\"}", -EBUSY,
		"is being pulled for the node's platform");
	assert_int_equal(world_launch(&world, "{\"image\":\"web\"}"), 0);
	world_done(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_platform_of_a_launch),
		cmocka_unit_test(test_platform_of_one_on_its_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
