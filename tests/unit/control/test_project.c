#include "world.h"

/* What a project may, and who says so: control believes its caller, api/ asks for root. */

static int set(struct world *world, const char *name, int allow, uint64_t if_match)
{
	struct project_request request = { .allow_privileged = allow };

	control_project_set(world->control, "default", name, &request, if_match, world_answer,
			    world);
	world_await(world);
	return world->result;
}

static void begin(struct world *world)
{
	world_init(world);
	world_hello(world);
	world_settle(world);
}

static void test_privileges_need_leave(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"privileged\":true}"), -EACCES);
	assert_non_null(strstr(world.err.msg, "allow_privileged"));
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"seccomp\":\"unconfined\"}"),
			 -EACCES);
	assert_int_equal(world_count(&world, KIND_INSTANCE), 0);

	assert_int_equal(set(&world, "default", 1, 0), 0);
	assert_string_equal(world_operation(&world, "state"), "done");
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"privileged\":true}"), 0);

	assert_int_equal(set(&world, "default", 0, 0), 0);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"privileged\":true}"), -EACCES);
	/* What asks for nothing needs nothing. */
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"cap_add\":[\"ALL\"]}"), 0);
	world_settle(&world);
	world_done(&world);
}

static void test_leave_outlives_a_restart(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(set(&world, "default", 1, 0), 0);
	world_restart(&world);
	world_hello(&world);
	world_settle(&world);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"privileged\":true}"), 0);
	world_settle(&world);
	world_done(&world);
}

static void test_what_is_not_there_or_has_changed(void **state)
{
	AUTO(json_decref) json_t *project = NULL;
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(set(&world, "nobody", 1, 0), -ENOENT);
	assert_int_equal(control_get(world.control, KIND_PROJECT, "_", "default", &project, NULL),
			 0);
	uint64_t revision = (uint64_t) number(project, "meta", "revision");
	assert_int_equal(set(&world, "default", 1, revision + 1), -ESTALE);
	assert_int_equal(set(&world, "default", 1, revision), 0);
	assert_int_equal(set(&world, "default", 1, revision), -ESTALE);
	world_done(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_privileges_need_leave),
		cmocka_unit_test(test_leave_outlives_a_restart),
		cmocka_unit_test(test_what_is_not_there_or_has_changed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
