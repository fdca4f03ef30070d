#include "world.h"

/* A name is given up and taken in one transaction, and nobody thinks that anything ended. */

static int rename_to(struct world *world, const char *name, const char *new_name)
{
	control_instance_rename(world->control, "default", name, new_name, 0, world_answer, world);
	world_await(world);
	return world->result;
}

struct told {
	unsigned int count[4]; /* by action */
	char name[32], old_name[32];
};

static void on_event(const struct event *event, void *data)
{
	struct told *told = data;

	if (event->kind != KIND_INSTANCE)
		return;
	told->count[event->action]++;
	if (event->action == EVENT_RENAMED) {
		snprintf(told->name, sizeof(told->name), "%s", event->name);
		snprintf(told->old_name, sizeof(told->old_name), "%s", event->old_name);
	}
}

static void on_ended(int result, const struct error *err, void *data)
{
	(void) result;
	(void) err;
	(void) data;
	fail_msg("the subscription ended");
}

static char *uid_of(struct world *world, const char *name)
{
	AUTO(json_decref) json_t *doc = NULL;

	assert_int_equal(
		control_get(world->control, KIND_INSTANCE, "default", name, &doc, &world->err), 0);
	return mem_strdup(member(doc, "meta", "uid"));
}

static void begin(struct world *world)
{
	world_init(world);
	world_hello(world);
	assert_int_equal(world_launch(world, "{\"image\":\"web\",\"name\":\"a\"}"), 0);
	world_settle(world);
}

static void test_it_stays_the_same(void **state)
{
	struct control_filter all = { .project = "default", .kind = -1 };
	struct control_filter old = { .project = "default", .kind = KIND_INSTANCE, .name = "a" };
	AUTO(control_subscription_free) struct control_subscription *one = NULL, *two = NULL;
	struct told told_all = {}, told_old = {};
	struct world world;

	(void) state;
	begin(&world);
	AUTO(free) char *before = uid_of(&world, "a");
	assert_int_equal(control_subscribe(world.control, 0, &all, on_event, on_ended, &told_all,
					   &one, &world.err),
			 0);
	assert_int_equal(control_subscribe(world.control, 0, &old, on_event, on_ended, &told_old,
					   &two, &world.err),
			 0);
	assert_int_equal(rename_to(&world, "a", "b"), 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	AUTO(free) char *after = uid_of(&world, "b");
	assert_string_equal(before, after);
	assert_null(world_show(&world, KIND_INSTANCE, "a", "state"));
	assert_string_equal(world_show(&world, KIND_INSTANCE, "b", "state"), "running");
	/* The node was told the name and never that it should forget. */
	assert_int_equal(world.forgets, 0);
	assert_string_equal(member(world_thing(&world, after)->desired, "meta", "name"), "b");
	assert_int_equal(told_all.count[EVENT_RENAMED], 1);
	assert_int_equal(told_all.count[EVENT_DELETED], 0);
	assert_int_equal(told_all.count[EVENT_CREATED], 0);
	assert_string_equal(told_all.name, "b");
	assert_string_equal(told_all.old_name, "a");
	assert_int_equal(told_old.count[EVENT_RENAMED], 1);
	assert_int_equal(world_keys(&world, "/instance/"), 1);
	assert_int_equal(world_keys(&world, "/address/"), 2);
	control_subscription_free(TAKE_PTR(one));
	control_subscription_free(TAKE_PTR(two));
	/* The old name is free, and everything goes on under the new one. */
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\"}"), 0);
	world_restart(&world);
	world_hello(&world);
	world_settle(&world);
	assert_int_equal(world_count(&world, KIND_INSTANCE), 2);
	assert_int_equal(world_action(&world, "b", INSTANCE_STOP), 0);
	assert_int_equal(world_delete(&world, "b", true), 0);
	world_settle(&world);
	assert_int_equal(world_count(&world, KIND_INSTANCE), 1);
	assert_int_equal(world_keys(&world, "/address/"), 2);
	world_done(&world);
}

static void test_refusals(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"b\"}"), 0);
	world_settle(&world);
	assert_int_equal(rename_to(&world, "a", "b"), -EEXIST);
	assert_string_equal(world.err.msg, "instance \"b\" exists already");
	assert_int_equal(rename_to(&world, "c", "d"), -ENOENT);
	control_instance_rename(world.control, "default", "a", "c", 1, world_answer, &world);
	world_await(&world);
	assert_int_equal(world.result, -ESTALE);
	/* The name that it has is nothing to do. */
	assert_int_equal(rename_to(&world, "a", "a"), 0);
	assert_string_equal(world_operation(&world, "state"), "done");
	world.node_works = false;
	assert_int_equal(world_delete(&world, "b", true), 0);
	assert_int_equal(rename_to(&world, "b", "c"), -EBUSY);
	assert_int_equal(rename_to(&world, "a", "b"), -EEXIST);
	assert_string_equal(world.err.msg, "instance \"b\" is still being deleted");
	world_done(&world);
}

/* A status that came under the old name, and an operation that waits for it. */
static void test_in_the_middle_of_a_launch(void **state)
{
	AUTO(free) char *launch = NULL;
	struct world world;

	(void) state;
	world_init(&world);
	world_hello(&world);
	world.slow_create = true;
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\"}"), 0);
	launch = mem_strdup(operation_id(&world));
	world_settle(&world);
	assert_int_equal(rename_to(&world, "a", "b"), 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "running");
	world.slow_create = false;
	world_pass(&world, 1000);
	assert_string_equal(world_operation(&world, "state"), "done");
	assert_string_equal(world_show(&world, KIND_OPERATION, launch, "state"), "done");
	assert_string_equal(world_show(&world, KIND_INSTANCE, "b", "state"), "running");
	world_done(&world);
}

/* A status that was being written under the old name when it went. */
static void test_a_status_meets_the_new_name(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	AUTO(free) char *uid = uid_of(&world, "a");
	world.node_works = false;
	control_instance_rename(world.control, "default", "a", "b", 0, world_answer, &world);
	world_status(&world, world_thing(&world, uid),
		     json_pack("{s:i, s:s, s:i, s:i}", "generation", 1, "state", "stopped",
			       "start_seq", 1, "exit_code", 7));
	world_settle(&world);
	AUTO(json_decref) json_t *doc = NULL;
	assert_int_equal(
		control_get(world.control, KIND_INSTANCE, "default", "b", &doc, &world.err), 0);
	assert_string_equal(member(doc, "status", "state"), "stopped");
	assert_int_equal(number(doc, "status", "exit_code"), 7);
	/* It is in the store, too. */
	world_restart(&world);
	assert_string_equal(world_show(&world, KIND_INSTANCE, "b", "state"), "stopped");
	world_done(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_stays_the_same),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_in_the_middle_of_a_launch),
		cmocka_unit_test(test_a_status_meets_the_new_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
