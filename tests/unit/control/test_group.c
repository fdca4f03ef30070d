#include "world.h"

#include <sqlite3.h>

/* Security groups: who may name them, who is in them, and when they may go. */

static void await(struct world *world)
{
	world_await(world);
	world_settle(world);
}

static int create(struct world *world, const char *body)
{
	AUTO(group_request_free) struct group_request *request = NULL;
	AUTO(json_decref) json_t *doc = json_loads(body, 0, NULL);

	assert_non_null(doc);
	if (group_request_decode(doc, &request, &world->err) < 0)
		fail_msg("%s", world->err.msg);
	control_group_create(world->control, "default", request, world_answer, world);
	await(world);
	return world->result;
}

static int change(struct world *world, const char *name, enum security_group_change what,
		  const char *body)
{
	AUTO(json_decref) json_t *doc = json_loads(body, 0, NULL);

	assert_non_null(doc);
	control_group_change(world->control, "default", name, what, doc, 0, world_answer, world);
	await(world);
	return world->result;
}

static int delete (struct world *world, const char *name)
{
	control_group_delete(world->control, "default", name, 0, world_answer, world);
	await(world);
	return world->result;
}

static int update(struct world *world, const char *instance, const char *patch)
{
	AUTO(json_decref) json_t *doc = json_loads(patch, 0, NULL);

	assert_non_null(doc);
	control_instance_update(world->control, "default", instance, doc, 0, world_answer, world);
	await(world);
	return world->result;
}

static json_t *show(struct world *world, enum kind kind, const char *name)
{
	json_t *doc = NULL;

	if (control_get(world->control, kind, "default", name, &doc, &world->err) < 0)
		fail_msg("%s", world->err.msg);
	return doc;
}

static const json_t *spec_of(const json_t *doc, const char *name)
{
	return json_object_get(json_object_get(doc, "spec"), name);
}

/* The groups of the first port, by what the node is told: names of uids, with blanks behind. */
static char *groups_of(struct world *world, const char *instance)
{
	AUTO(json_decref) json_t *doc = show(world, KIND_INSTANCE, instance), *list = NULL;
	const json_t *uids =
		json_object_get(json_array_get(spec_of(doc, "ports"), 0), "group_uids");
	char *text = mem_strdup("");
	json_t *uid, *group;
	size_t i, k;

	assert_int_equal(control_list(world->control, KIND_GROUP, "default", true, &list, NULL), 0);
	json_array_foreach(uids, i, uid)
	{
		const char *name = "?";

		json_array_foreach(list, k, group) if (strcmp(member(group, "meta", "uid"),
							      json_string_value(uid)) == 0) name =
			member(group, "meta", "name");
		char *longer = mem_printf("%s%s ", text, name);
		free(text);
		text = longer;
	}
	return text;
}

static void expect_groups(struct world *world, const char *instance, const char *expected)
{
	AUTO(free) char *text = groups_of(world, instance);

	assert_string_equal(text, expected);
}

static void begin(struct world *world)
{
	world_init(world);
	world_hello(world);
	world_settle(world);
	assert_int_equal(create(world, "{\"name\":\"web\",\"ingress\":[{\"protocol\":\"tcp\","
				       "\"ports\":\"80\"}]}"),
			 0);
	assert_string_equal(world_operation(world, "state"), "done");
}

static void test_the_default_group(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	AUTO(json_decref) json_t *group = show(&world, KIND_GROUP, "default");
	const json_t *rule = json_array_get(spec_of(group, "ingress"), 0);
	assert_int_equal(json_array_size(spec_of(group, "ingress")), 1);
	assert_string_equal(json_string_value(json_object_get(rule, "protocol")), "any");
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(rule, "from"), "uid")),
		member(group, "meta", "uid"));
	assert_null(spec_of(group, "egress"));
	assert_string_equal(member(group, "status", "state"), "ready");
	/* Whoever says nothing is in it, and writes no key for that. */
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\"}"), 0);
	world_settle(&world);
	expect_groups(&world, "a", "default ");
	assert_int_equal(world_keys(&world, "/groupuse/"), 0);
	assert_int_equal(delete (&world, "default"), -EBUSY);
	assert_non_null(strstr(world.err.msg, "cannot be deleted: ports that name no group"));
	assert_int_equal(create(&world, "{\"name\":\"default\"}"), -EEXIST);
	assert_int_equal(change(&world, "default", SECURITY_GROUP_ADD,
				"{\"way\":\"ingress\",\"protocol\":\"icmp\"}"),
			 0);
	/* It is the same one after a restart. */
	AUTO(free) char *uid = mem_strdup(member(group, "meta", "uid"));
	world_restart(&world);
	json_decref(group);
	group = show(&world, KIND_GROUP, "default");
	assert_string_equal(member(group, "meta", "uid"), uid);
	assert_int_equal(json_array_size(spec_of(group, "ingress")), 2);
	world_done(&world);
}

static void test_rules_name_groups_that_are_there(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(create(&world, "{\"name\":\"self\"}"), -EINVAL);
	assert_int_equal(create(&world, "{\"name\":\"web\"}"), -EEXIST);
	assert_int_equal(create(&world, "{\"name\":\"db\",\"ingress\":[{},{\"from\":{\"group\":"
					"\"nix\"}}]}"),
			 -ENOENT);
	assert_string_equal(world.err.msg, "ingress[1]: security group \"nix\" does not exist");
	assert_int_equal(create(&world, "{\"name\":\"db\",\"ingress\":[{\"from\":{\"group\":"
					"\"web\"}},{\"from\":{\"group\":\"self\"}}],\"egress\":[{"
					"\"to\":{\"group\":\"db\"}}]}"),
			 0);
	/* Two that name each other, and one that names itself, are nothing special. */
	assert_int_equal(change(&world, "web", SECURITY_GROUP_PATCH,
				"{\"ingress\":[{\"from\":{\"group\":\"db\"}}]}"),
			 0);
	assert_string_equal(world_operation(&world, "state"), "done");
	assert_int_equal(delete (&world, "db"), -EBUSY);
	assert_string_equal(world.err.msg, "security group \"db\" is used by a rule of group web");
	assert_int_equal(delete (&world, "web"), -EBUSY);
	assert_int_equal(change(&world, "web", SECURITY_GROUP_REMOVE, "{\"number\":2}"), -ENOENT);
	assert_int_equal(change(&world, "web", SECURITY_GROUP_REMOVE, "{\"number\":1}"), 0);
	assert_int_equal(delete (&world, "db"), 0);
	assert_string_equal(world_operation(&world, "state"), "done");
	assert_int_equal(world_count(&world, KIND_GROUP), 2);
	assert_int_equal(change(&world, "db", SECURITY_GROUP_PATCH, "{}"), -ENOENT);
	world_done(&world);
}

static void test_who_is_in_use_stays(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(world_launch(&world,
				      "{\"image\":\"web\",\"name\":\"a\",\"ports\":[{\"network\":"
				      "\"default\",\"groups\":[\"web\",\"default\"]}]}"),
			 0);
	world_settle(&world);
	expect_groups(&world, "a", "web default ");
	assert_int_equal(world_keys(&world, "/groupuse/"), 1);
	assert_int_equal(delete (&world, "web"), -EBUSY);
	assert_string_equal(world.err.msg, "security group \"web\" is used by instance a");
	assert_int_equal(world_launch(&world,
				      "{\"image\":\"web\",\"name\":\"b\",\"ports\":[{\"network\":"
				      "\"default\",\"groups\":[\"nix\"]}]}"),
			 -ENOENT);
	assert_int_equal(world_delete(&world, "a", true), 0);
	world_settle(&world);
	assert_int_equal(world_keys(&world, "/groupuse/"), 0);
	assert_int_equal(delete (&world, "web"), 0);
	world_done(&world);
}

static void test_changed_while_it_runs(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(create(&world, "{\"name\":\"db\"}"), 0);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\"}"), 0);
	world_settle(&world);
	assert_int_equal(update(&world, "a", "{\"groups\":[\"web\",\"db\"]}"), 0);
	assert_string_equal(world_operation(&world, "state"), "done");
	expect_groups(&world, "a", "web db ");
	assert_int_equal(world_keys(&world, "/groupuse/"), 2);
	assert_int_equal(update(&world, "a", "{\"ports\":{\"default\":{\"groups\":[\"db\"]}}}"), 0);
	expect_groups(&world, "a", "db ");
	assert_int_equal(world_keys(&world, "/groupuse/"), 1);
	assert_int_equal(delete (&world, "web"), 0);
	assert_int_equal(update(&world, "a", "{\"groups\":[\"web\"]}"), -ENOENT);
	assert_int_equal(update(&world, "a", "{\"groups\":[]}"), -EINVAL);
	assert_int_equal(update(&world, "a", "{\"groups\":[\"db\",\"db\"]}"), -EINVAL);
	assert_int_equal(update(&world, "a", "{\"ports\":{\"nix\":{\"groups\":[\"db\"]}}}"),
			 -EINVAL);
	assert_non_null(strstr(world.err.msg, "it is not attached to network \"nix\""));
	assert_int_equal(update(&world, "a", "{\"ports\":{\"default\":{\"mac\":\"x\"}}}"), -EINVAL);
	/* The same again is no change. */
	unsigned int messages = world.messages;
	assert_int_equal(update(&world, "a", "{\"groups\":[\"db\"]}"), 0);
	assert_int_equal(world.messages, messages);
	assert_int_equal(update(&world, "a", "{\"groups\":null}"), 0);
	expect_groups(&world, "a", "default ");
	assert_int_equal(world_keys(&world, "/groupuse/"), 0);
	world_done(&world);
}

static void test_what_the_node_refuses_is_taken_back(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\"}"), 0);
	world_settle(&world);
	world.broken = "default";
	assert_int_equal(update(&world, "a", "{\"groups\":[\"web\"]}"), 0);
	assert_string_equal(world_operation(&world, "state"), "failed");
	assert_string_equal(world_operation(&world, "error"), "no such bridge");
	expect_groups(&world, "a", "default ");
	assert_int_equal(world_keys(&world, "/groupuse/"), 0);
	world.broken = "web";
	assert_int_equal(change(&world, "web", SECURITY_GROUP_REPLACE, "{\"ingress\":[]}"), 0);
	assert_string_equal(world_operation(&world, "state"), "failed");
	assert_string_equal(world_operation(&world, "error"), "too much");
	AUTO(json_decref) json_t *group = show(&world, KIND_GROUP, "web");
	assert_int_equal(json_array_size(spec_of(group, "ingress")), 1);
	/* One that cannot be made leaves nothing. */
	world.broken = "db";
	assert_int_equal(create(&world, "{\"name\":\"db\"}"), 0);
	assert_string_equal(world_operation(&world, "state"), "failed");
	assert_int_equal(world_count(&world, KIND_GROUP), 2);
	world_done(&world);
}

/* brumed dies after each step of a group's life. */
static void test_killed_between_any_two_steps(void **state)
{
	(void) state;
	for (unsigned int step = 1, killed = 1; killed; step++) {
		struct world world;

		world_init(&world);
		world_hello(&world);
		world_settle(&world);
		world.kill_in = step;
		create(&world, "{\"name\":\"web\",\"ingress\":[{\"from\":{\"group\":\"self\"}}]}");
		world_launch(&world, "{\"image\":\"web\",\"name\":\"a\",\"ports\":[{\"network\":"
				     "\"default\",\"groups\":[\"web\"]}]}");
		world_settle(&world);
		change(&world, "web", SECURITY_GROUP_ADD, "{\"way\":\"egress\"}");
		update(&world, "a", "{\"groups\":[\"default\"]}");
		delete (&world, "web");
		killed = world.kills;
		world.kill_in = 0;
		/* Once more, for what the death has cut off. */
		update(&world, "a", "{\"groups\":null}");
		world_pass(&world, 2000);
		assert_int_equal(world_keys(&world, "/groupuse/"), 0);
		delete (&world, "web");
		world_pass(&world, 2000);
		assert_int_equal(world_count(&world, KIND_GROUP), 1);
		world_done(&world);
	}
}

static void run_sql(const char *path, const char *sql)
{
	sqlite3 *db = NULL;
	char *message = NULL;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
		fail_msg("%s", message);
	sqlite3_close(db);
}

/* A store of a brumed that knew no groups: its projects get one, its ports are put into it. */
static void test_an_old_store(void **state)
{
	AUTO(free) char *path = mem_strdup("/tmp/brume-test-groups-XXXXXX");
	int fd = mkstemp(path);
	struct world world;

	(void) state;
	close(fd);
	world_init_at(&world, path);
	world_hello(&world);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\"}"), 0);
	world_settle(&world);
	control_free(TAKE_PTR(world.control));
	store_free(TAKE_PTR(world.store));
	run_sql(path, "DELETE FROM kv WHERE key LIKE '/group/%';"
		      "UPDATE kv SET value = json_remove(value, '$.spec.ports[0].group_uids')"
		      " WHERE key LIKE '/instance/%';"
		      "INSERT INTO kv SELECT '/project/_/other', replace(replace(value, "
		      "'\"name\":\"default\"', '\"name\":\"other\"'), substr(json_extract(value, "
		      "'$.meta.uid'), 1, 8), '01234567'), created, modified, lease FROM kv "
		      "WHERE key = '/project/_/default';");
	world_open(&world);
	world_start(&world);
	world_hello(&world);
	world_settle(&world);
	expect_groups(&world, "a", "default ");
	AUTO(json_decref) json_t *instance = show(&world, KIND_INSTANCE, "a"), *group = NULL;
	assert_true(number(instance, "status", "generation") ==
		    number(instance, "meta", "generation"));
	assert_int_equal(
		control_get(world.control, KIND_GROUP, "other", "default", &group, &world.err), 0);
	world_done(&world);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_default_group),
		cmocka_unit_test(test_rules_name_groups_that_are_there),
		cmocka_unit_test(test_who_is_in_use_stays),
		cmocka_unit_test(test_changed_while_it_runs),
		cmocka_unit_test(test_what_the_node_refuses_is_taken_back),
		cmocka_unit_test(test_killed_between_any_two_steps),
		cmocka_unit_test(test_an_old_store),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
