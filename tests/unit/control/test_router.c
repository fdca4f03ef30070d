#include "world.h"

/* Routers: what they reserve, what is refused, and what follows when an instance comes or goes. */

static void make_network(struct world *world, const char *name, const char *ipv4, bool isolated)
{
	AUTO(network_request_free) struct network_request *request = network_request_new();

	mem_replace(&request->name, name);
	assert_int_equal(subnet_parse(ipv4, 4, "ipv4", &request->spec.ipv4, NULL), 0);
	request->spec.isolated = isolated;
	request->spec.nat = !isolated;
	control_network_create(world->control, "default", request, world_answer, world);
	world_await(world);
}

static json_t *parse(const char *text)
{
	char *copy = mem_strdup(text);
	json_t *doc;

	for (char *c = copy; *c; c++)
		if (*c == '\'')
			*c = '"';
	doc = json_loads(copy, 0, NULL);
	if (!doc)
		fail_msg("%s", copy);
	free(copy);
	return doc;
}

static int create_as(struct world *world, const char *text, bool root)
{
	AUTO(json_decref) json_t *body = parse(text);
	const char *name = json_string_value(json_object_get(body, "name"));

	control_router_create(world->control, "default", name, body, root, world_answer, world);
	world_await(world);
	return world->result;
}

static int create(struct world *world, const char *text)
{
	return create_as(world, text, true);
}

static int update_as(struct world *world, const char *name, const char *text, bool root)
{
	AUTO(json_decref) json_t *patch = parse(text);

	control_router_update(world->control, "default", name, patch, root, 0, world_answer, world);
	world_await(world);
	return world->result;
}

static int update(struct world *world, const char *name, const char *text)
{
	return update_as(world, name, text, true);
}

static json_t *show(struct world *world, const char *name)
{
	json_t *doc = NULL;

	assert_int_equal(
		control_get(world->control, KIND_ROUTER, "default", name, &doc, &world->err), 0);
	return doc;
}

/* A text in the spec: four names deep; "" when it is not there. */
static char *text_at(struct world *world, const char *router, const char *list, const char *key,
		     const char *name)
{
	AUTO(json_decref) json_t *doc = show(world, router);
	const json_t *spec = json_object_get(doc, "spec");
	const char *text = json_string_value(
		json_object_get(json_object_get(json_object_get(spec, list), key), name));

	return mem_strdup(text ? text : "");
}

static void expect(struct world *world, const char *router, const char *list, const char *key,
		   const char *name, const char *wanted)
{
	AUTO(free) char *text = text_at(world, router, list, key, name);

	assert_string_equal(text, wanted);
}

static int delete_network(struct world *world, const char *name)
{
	control_network_delete(world->control, "default", name, 0, world_answer, world);
	world_await(world);
	return world->result;
}

static void begin(struct world *world)
{
	world_init(world);
	world_hello(world);
	make_network(world, "a", "10.1.0.0/24", true);
	make_network(world, "b", "10.2.0.0/24", true);
	make_network(world, "twin", "10.1.0.0/25", true);
	make_network(world, "open", "10.7.0.0/24", false);
	world_settle(world);
	assert_int_equal(world_launch(world, "{\"image\":\"web\",\"name\":\"web\",\"ports\":[{"
					     "\"network\":\"a\",\"ipv4\":\"10.1.0.5\"}]}"),
			 0);
	world_settle(world);
}

static void test_it_takes_and_gives_back(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	size_t before = world_keys(&world, "/address/");
	assert_int_equal(create(&world, "{'name':'r','networks':{'a':{},'b':{'ipv4':'10.2.0.9'}},"
					"'floating':{'192.0.2.9':{'instance':'web'}},'forwards':{"
					"'8080/tcp':{'instance':'web','port':80}}}"),
			 0);
	world_settle(&world);
	expect(&world, "r", "networks", "a", "ipv4", "10.1.0.1");
	expect(&world, "r", "floating", "192.0.2.9", "ipv4", "10.1.0.5");
	expect(&world, "r", "forwards", "8080/tcp", "ipv4", "10.1.0.5");
	assert_int_equal(world_keys(&world, "/address/"), before + 2);
	assert_int_equal(world_keys(&world, "/transit/"), 1);
	assert_int_equal(world_keys(&world, "/floating/"), 1);
	assert_int_equal(world_keys(&world, "/hostport/"), 1);
	/* Its address is nobody else's, and its networks stay. */
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"ports\":[{\"network\":\"b\","
					      "\"ipv4\":\"10.2.0.9\"}]}"),
			 -EADDRINUSE);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"publish\":[{\"host_port\":8080,"
					      "\"port\":1}]}"),
			 -EEXIST);
	assert_non_null(strstr(world.err.msg, "router \"r\""));
	assert_int_equal(delete_network(&world, "b"), -EBUSY);
	assert_non_null(strstr(world.err.msg, "router detach r b"));
	assert_int_equal(update(&world, "r", "{'networks':{'b':null},'floating':null}"), 0);
	world_settle(&world);
	assert_int_equal(world_keys(&world, "/address/"), before + 1);
	assert_int_equal(world_keys(&world, "/floating/"), 0);
	assert_int_equal(delete_network(&world, "b"), 0);
	control_router_delete(world.control, "default", "r", 0, world_answer, &world);
	world_await(&world);
	world_settle(&world);
	assert_int_equal(world_keys(&world, "/address/"), before);
	assert_int_equal(world_keys(&world, "/transit/"), 0);
	assert_int_equal(world_keys(&world, "/hostport/"), 0);
	assert_int_equal(world_keys(&world, "/router/"), 0);
	world_done(&world);
}

static void test_refusals(void **state)
{
	static const struct {
		const char *text;
		int result;
		const char *words;
	} cases[] = {
		{ "{'name':'s','networks':{'a':{}}}", -EADDRINUSE, "taken by \"r\"" },
		{ "{'name':'s','networks':{'open':{}}}", -EINVAL, "has a gateway already" },
		{ "{'name':'s','networks':{'nix':{}}}", -ENOENT, "does not exist" },
		{ "{'name':'s','networks':{'a':{'ipv4':'10.1.0.2'},'twin':{}}}", -EEXIST,
		  "in common" },
		{ "{'name':'s','networks':{'b':{'ipv4':'10.9.0.1'}}}", -EINVAL, "is not one of" },
		{ "{'name':'s','networks':{'b':{'ipv4':'10.2.0.255'}}}", -EINVAL, "is not one of" },
		{ "{'name':'s','networks':{'b':{'ipv6':'fd00::1'}}}", -EINVAL, "no such subnet" },
		{ "{'name':'s','networks':{'b':{}},'routes':{'10.9.0.0/24':{'via':'10.8.0.1'}}}",
		  -EINVAL, "none of the router's networks" },
		{ "{'name':'s','networks':{'b':{}},'routes':{'10.9.0.0/24':{'via':'10.2.0.1'}}}",
		  -EINVAL, "the router itself" },
		{ "{'name':'s','networks':{'b':{}},'routes':{'0.0.0.0/0':{'via':'10.2.0.9'}}}",
		  -EINVAL, "that one already" },
		{ "{'name':'s','networks':{'b':{}},'routes':{'10.2.0.0/25':{'via':'10.2.0.9'}}}",
		  -EINVAL, "joins itself" },
		{ "{'name':'s','networks':{'b':{}},'floating':{'10.2.0.7':{}}}", -EINVAL,
		  "inside of network \"b\"" },
		{ "{'name':'s','floating':{'10.7.0.7':{}}}", -EINVAL,
		  "inside of network \"open\"" },
		{ "{'name':'s','floating':{'224.0.0.1':{}}}", -EINVAL, "nobody outside" },
		{ "{'name':'s','floating':{'192.0.2.1':{}}}", -EADDRINUSE, "taken by \"r\"" },
		{ "{'name':'s','networks':{'b':{}},'floating':{'192.0.2.2':{'instance':'web'}}}",
		  -EINVAL, "none of the router's networks" },
		{ "{'name':'s','networks':{'b':{}},'floating':{'192.0.2.2':{'instance':'nix'}}}",
		  -ENOENT, "does not exist" },
		{ "{'name':'s','networks':{'b':{}},'floating':{'192.0.2.2':{'target':'10.3.0.1'}}}",
		  -EINVAL, "none of the router's networks" },
		{ "{'name':'s','networks':{'b':{}},'forwards':{'192.0.2.2:80/tcp':{'target':"
		  "'10.2.0.5'}}}",
		  -EINVAL, "not a floating address of the router" },
		{ "{'name':'s','networks':{'b':{}},'forwards':{'80/tcp':{'target':'10.2.0.5'}}}",
		  -EEXIST, "taken by router \"r\"" },
		{ "{'name':'r'}", -EEXIST, "exists already" },
	};
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(create(&world,
				"{'name':'r','networks':{'a':{}},'floating':{'192.0.2.1':{}},"
				"'forwards':{'80/tcp':{'instance':'web'}}}"),
			 0);
	world_settle(&world);
	uint64_t revision = control_revision(world.control);
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		if (create(&world, cases[i].text) != cases[i].result ||
		    !strstr(world.err.msg, cases[i].words))
			fail_msg("%s: %d %s", cases[i].text, world.result, world.err.msg);
	}
	/* Floating addresses are root's to give; where one leads is not. */
	assert_int_equal(create_as(&world, "{'name':'s','floating':{'192.0.2.2':{}}}", false),
			 -EACCES);
	assert_true(control_revision(world.control) == revision);
	assert_int_equal(
		update_as(&world, "r", "{'floating':{'192.0.2.1':{'instance':'web'}}}", false), 0);
	assert_int_equal(create_as(&world, "{'name':'s','networks':{'b':{}}}", false), 0);
	world_done(&world);
}

static void test_targets_follow_their_instances(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(create(&world, "{'name':'r','networks':{'a':{}},'floating':{'192.0.2.1':{"
					"'instance':'web'}}}"),
			 0);
	world_settle(&world);
	control_instance_rename(world.control, "default", "web", "site", 0, world_answer, &world);
	world_await(&world);
	world_settle(&world);
	expect(&world, "r", "floating", "192.0.2.1", "instance", "site");
	expect(&world, "r", "floating", "192.0.2.1", "ipv4", "10.1.0.5");
	assert_int_equal(world_delete(&world, "site", true), 0);
	world_settle(&world);
	expect(&world, "r", "floating", "192.0.2.1", "ipv4", "");
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"site\",\"ports\":[{"
					      "\"network\":\"a\",\"ipv4\":\"10.1.0.9\"}]}"),
			 0);
	world_settle(&world);
	expect(&world, "r", "floating", "192.0.2.1", "ipv4", "10.1.0.9");
	AUTO(json_decref) json_t *doc = show(&world, "r");
	assert_true(number(doc, "meta", "generation") == number(doc, "status", "generation"));
	world_done(&world);
}

static void test_what_the_node_refuses_is_taken_back(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(create(&world, "{'name':'r','networks':{'a':{}}}"), 0);
	world_settle(&world);
	size_t addresses = world_keys(&world, "/address/");
	world.router_refused = true;
	assert_int_equal(update(&world, "r",
				"{'networks':{'b':{}},'forwards':{'80/tcp':{"
				"'instance':'web'}}}"),
			 0);
	assert_true(world_node_step(&world));
	world.router_refused = false;
	world_settle(&world);
	AUTO(json_decref) json_t *doc = show(&world, "r");
	const json_t *spec = json_object_get(doc, "spec");
	assert_null(json_object_get(json_object_get(spec, "networks"), "b"));
	assert_non_null(json_object_get(json_object_get(spec, "networks"), "a"));
	assert_null(json_object_get(spec, "forwards"));
	assert_int_equal(world_keys(&world, "/address/"), addresses);
	assert_int_equal(world_keys(&world, "/hostport/"), 0);
	/* One that never was is not there afterwards. */
	world.router_refused = true;
	assert_int_equal(create(&world, "{'name':'s','networks':{'b':{}}}"), 0);
	world_settle(&world);
	assert_int_equal(world_keys(&world, "/router/"), 1);
	assert_int_equal(world_keys(&world, "/address/"), addresses);
	world_done(&world);
}

static void test_without_nat_subnets_are_the_nodes(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	make_network(&world, "shadow", "10.7.0.0/25", true);
	world_settle(&world);
	assert_int_equal(create(&world, "{'name':'r','nat':false,'networks':{'shadow':{}}}"),
			 -EEXIST);
	assert_non_null(strstr(world.err.msg, "\"open\""));
	assert_int_equal(create(&world, "{'name':'r','networks':{'shadow':{},'a':{}}}"), 0);
	assert_int_equal(update(&world, "r", "{'nat':false}"), -EEXIST);
	assert_int_equal(update(&world, "r", "{'nat':false,'networks':{'shadow':null}}"), 0);
	make_network(&world, "more", "10.1.0.0/16", false);
	assert_int_equal(world.result, -EEXIST);
	world_settle(&world);
	/* The same addresses once more: of two that lead outside as they are, one. */
	assert_int_equal(create(&world, "{'name':'s','nat':false,'networks':{'twin':{}}}"),
			 -EEXIST);
	assert_int_equal(create(&world, "{'name':'s','networks':{'twin':{}}}"), 0);
	world_done(&world);
}

static void test_killed_between_any_two_steps(void **state)
{
	bool killed = true;

	(void) state;
	for (unsigned int step = 1; killed; step++) {
		struct world world;

		begin(&world);
		size_t addresses = world_keys(&world, "/address/");
		world.kill_in = step;
		AUTO(json_decref)
		json_t *body = parse("{'name':'r','networks':{'a':{},'b':{}},'floating':{"
				     "'192.0.2.1':{'instance':'web'}}}");
		AUTO(json_decref)
		json_t *patch = parse("{'networks':{'b':null},'routes':{"
				      "'10.9.0.0/24':{'via':'10.1.0.9'}}}");
		control_router_create(world.control, "default", "r", body, true, world_answer,
				      &world);
		world_settle(&world);
		control_router_update(world.control, "default", "r", patch, true, 0, world_answer,
				      &world);
		world_settle(&world);
		control_router_delete(world.control, "default", "r", 0, world_answer, &world);
		world_settle(&world);
		killed = world.kills > 0;
		world_pass(&world, 3000);
		size_t routers = world_keys(&world, "/router/");
		assert_int_equal(world_keys(&world, "/transit/"), routers);
		assert_int_equal(world_keys(&world, "/floating/"), routers);
		assert_true(world_keys(&world, "/address/") <= addresses + 2 * routers);
		assert_true(world_keys(&world, "/address/") >= addresses + routers);
		world_done(&world);
	}
}

static int launch_on(struct world *world, const char *name, const char *more, const char *first,
		     const char *second)
{
	AUTO(free)
	char *text =
		mem_printf("{\"image\":\"web\",\"name\":\"%s\",%s\"ports\":[{\"network\":\"%s\"},"
			   "{\"network\":\"%s\"}]}",
			   name, more, first, second);
	int r = world_launch(world, text);

	world_settle(world);
	return r;
}

/* Who answers by another way than the router would be met with silence. */
static void test_who_answers_by_another_way(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(launch_on(&world, "out", "", "open", "a"), 0);
	assert_int_equal(launch_on(&world, "in", "", "a", "open"), 0);
	assert_int_equal(launch_on(&world, "sold", "\"publish\":[{\"host_port\":99,\"port\":1}],",
				   "a", "open"),
			 0);
	assert_int_equal(create(&world, "{'name':'r','networks':{'a':{}}}"), 0);
	world_settle(&world);
	assert_int_equal(
		update(&world, "r", "{'forwards':{'80/tcp':{'instance':'out','port':80}}}"),
		-EINVAL);
	assert_non_null(strstr(world.err.msg, "forward 80/tcp: instance \"out\" answers by"));
	assert_non_null(strstr(world.err.msg, "brume network detach open out first"));
	assert_int_equal(
		update(&world, "r", "{'forwards':{'80/tcp':{'instance':'sold','port':80}}}"),
		-EINVAL);
	assert_non_null(strstr(world.err.msg, "(it publishes ports)"));
	assert_int_equal(update(&world, "r", "{'floating':{'192.0.2.9':{'instance':'out'}}}"),
			 -EINVAL);
	assert_non_null(strstr(world.err.msg, "floating address 192.0.2.9: instance"));
	/* Whose default route is by the router, and who is named by address, are fine. */
	assert_int_equal(update(&world, "r", "{'forwards':{'80/tcp':{'instance':'in','port':80}}}"),
			 0);
	assert_int_equal(
		update(&world, "r", "{'forwards':{'81/tcp':{'target':'10.1.0.6','port':80}}}"), 0);
	world_settle(&world);
	/* A router that is not the gateway. */
	assert_int_equal(create(&world, "{'name':'s','networks':{'a':{'ipv4':'10.1.0.77'}},"
					"'forwards':{'82/tcp':{'instance':'web','port':80}}}"),
			 -EINVAL);
	assert_non_null(strstr(world.err.msg, "not the gateway of network \"a\" (10.1.0.1)"));
	world_done(&world);
}

/* What was good when it was said stays, and does not stand in the way of other changes. */
static void test_a_forward_that_became_silent_stays(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(launch_on(&world, "out", "", "open", "a"), 0);
	assert_int_equal(create(&world, "{'name':'r','networks':{'a':{}}}"), 0);
	world_settle(&world);
	control_port_detach(world.control, "default", "out", "open", 0, world_answer, &world);
	world_settle(&world);
	assert_int_equal(
		update(&world, "r", "{'forwards':{'80/tcp':{'instance':'out','port':80}}}"), 0);
	world_settle(&world);
	assert_int_equal(update(&world, "r", "{'networks':{'a':{'ipv4':'10.1.0.77'}}}"), 0);
	world_settle(&world);
	assert_int_equal(update(&world, "r", "{'nat':false}"), 0);
	assert_int_equal(
		update(&world, "r", "{'forwards':{'81/tcp':{'instance':'out','port':80}}}"),
		-EINVAL);
	world_done(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_takes_and_gives_back),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_targets_follow_their_instances),
		cmocka_unit_test(test_what_the_node_refuses_is_taken_back),
		cmocka_unit_test(test_without_nat_subnets_are_the_nodes),
		cmocka_unit_test(test_killed_between_any_two_steps),
		cmocka_unit_test(test_who_answers_by_another_way),
		cmocka_unit_test(test_a_forward_that_became_silent_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
