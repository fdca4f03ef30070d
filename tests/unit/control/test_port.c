#include "world.h"

/* The networks that an instance is in: addresses that are chosen, asked for and given back. */

static void answer(struct world *world)
{
	world_await(world);
}

static void make_network(struct world *world, const char *name, const char *subnet, bool isolated)
{
	AUTO(network_request_free) struct network_request *request = network_request_new();

	mem_replace(&request->name, name);
	assert_int_equal(subnet_parse(subnet, 4, "ipv4", &request->spec.ipv4, NULL), 0);
	request->spec.isolated = isolated;
	request->spec.nat = !isolated;
	control_network_create(world->control, "default", request, world_answer, world);
	answer(world);
}

static int attach(struct world *world, const char *instance, const char *text)
{
	AUTO(port_done) struct port port = {};

	assert_int_equal(port_parse(text, &port, &world->err), 0);
	control_port_attach(world->control, "default", instance, &port, 0, world_answer, world);
	answer(world);
	return world->result;
}

static int detach(struct world *world, const char *instance, const char *network)
{
	control_port_detach(world->control, "default", instance, network, 0, world_answer, world);
	answer(world);
	return world->result;
}

static json_t *show(struct world *world, const char *name)
{
	json_t *doc = NULL;

	assert_int_equal(
		control_get(world->control, KIND_INSTANCE, "default", name, &doc, &world->err), 0);
	return doc;
}

static const json_t *ports_of(const json_t *doc)
{
	return json_object_get(json_object_get(doc, "spec"), "ports");
}

/* "network interface ipv4" of a port; the caller frees. */
static char *port_text(const json_t *doc, size_t i)
{
	const json_t *port = json_array_get(ports_of(doc), i);

	return mem_printf("%s %s %s", json_string_value(json_object_get(port, "network")),
			  json_string_value(json_object_get(port, "interface")),
			  json_string_value(json_object_get(port, "ipv4")));
}

static void expect_port(struct world *world, const char *name, size_t i, const char *expected)
{
	AUTO(json_decref) json_t *doc = show(world, name);
	AUTO(free) char *text = port_text(doc, i);

	assert_string_equal(text, expected);
}

static void begin(struct world *world)
{
	world_init(world);
	world_hello(world);
	make_network(world, "back", "10.1.0.0/24", false);
	make_network(world, "inside", "10.9.0.0/29", true);
	world_settle(world);
}

static bool serves(struct world *world, const char *network)
{
	AUTO(json_decref) json_t *doc = NULL;

	assert_int_equal(
		control_get(world->control, KIND_NETWORK, "default", network, &doc, &world->err),
		0);
	return json_is_true(json_object_get(json_object_get(doc, "spec"), "dhcp"));
}

static void test_disks_that_boot_are_answered(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(world_pull(&world, "reg.example/disk:1"), 0);
	assert_int_equal(world_pull(&world, "reg.example/tree:1"), 0);
	world_settle(&world);
	assert_int_equal(world_launch(&world,
				      "{\"image\":\"reg.example/tree:1\",\"type\":\"vm\",\"name\":"
				      "\"tree\",\"ports\":[{\"network\":\"back\"}]}"),
			 0);
	world_settle(&world);
	assert_false(serves(&world, "back"));
	assert_int_equal(world_launch(&world,
				      "{\"image\":\"reg.example/disk:1\",\"type\":\"vm\",\"name\":"
				      "\"box\",\"ports\":[{\"network\":\"back\"},{\"network\":"
				      "\"inside\"}],\"start\":false}"),
			 0);
	world_settle(&world);
	assert_true(serves(&world, "back"));
	/* Nobody is there who could answer. */
	assert_false(serves(&world, "inside"));
	assert_false(serves(&world, "default"));
	assert_int_equal(attach(&world, "tree", "default"), 0);
	world_settle(&world);
	assert_false(serves(&world, "default"));
	assert_int_equal(attach(&world, "box", "default"), 0);
	world_settle(&world);
	assert_true(serves(&world, "default"));
	world_done(&world);
}

static void test_several_networks(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\",\"ports\":["
					      "{\"network\":\"default\"},"
					      "{\"network\":\"back\",\"ipv4\":\"10.1.0.5\",\"mac\":"
					      "\"02:AA:00:00:00:01\"}]}"),
			 0);
	world_settle(&world);
	expect_port(&world, "a", 0, "default eth0 10.90.0.2");
	expect_port(&world, "a", 1, "back eth1 10.1.0.5");
	/* Two addresses in the first, one and a hardware address in the second. */
	assert_int_equal(world_keys(&world, "/address/"), 4);
	control_network_delete(world.control, "default", "back", 0, world_answer, &world);
	answer(&world);
	assert_int_equal(world.result, -EBUSY);
	assert_non_null(strstr(world.err.msg, "used by instance a"));
	assert_int_equal(world_delete(&world, "a", true), 0);
	world_settle(&world);
	assert_int_equal(world_keys(&world, "/address/"), 0);
	/* Without any. */
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"b\",\"ports\":[]}"),
			 0);
	world_settle(&world);
	assert_int_equal(world_keys(&world, "/address/"), 0);
	world_done(&world);
}

static void test_refused_addresses(void **state)
{
	static const struct {
		const char *port;
		int result;
		const char *words;
	} cases[] = {
		{ "{\"network\":\"back\",\"ipv4\":\"10.1.0.5\"}", -EADDRINUSE,
		  "address 10.1.0.5 is taken by instance \"a\"" },
		{ "{\"network\":\"back\",\"ipv4\":\"10.2.0.5\"}", -EINVAL,
		  "address 10.2.0.5 is outside of 10.1.0.0/24, network \"back\"" },
		{ "{\"network\":\"back\",\"ipv4\":\"10.1.0.1\"}", -EINVAL, "is the gateway" },
		{ "{\"network\":\"inside\",\"ipv4\":\"10.9.0.1\"}", -EINVAL, "is the gateway" },
		{ "{\"network\":\"back\",\"ipv4\":\"10.1.0.0\"}", -EINVAL, "is the network or" },
		{ "{\"network\":\"back\",\"ipv4\":\"10.1.0.255\"}", -EINVAL, "broadcast" },
		{ "{\"network\":\"back\",\"ipv6\":\"fd00::5\"}", -EINVAL, "has no IPv6 subnet" },
		{ "{\"network\":\"back\",\"mac\":\"02:aa:00:00:00:01\"}", -EADDRINUSE,
		  "mac 02:aa:00:00:00:01 is taken by instance \"a\"" },
		{ "{\"network\":\"back\",\"mac\":\"02:62:00:00:00:01\"}", -EINVAL, "brume's own" },
		{ "{\"network\":\"back\",\"groups\":[\"web\"]}", -ENOENT,
		  "security group \"web\" does not exist" },
		{ "{\"network\":\"nix\"}", -ENOENT, "network \"nix\" does not exist" },
	};
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(world_launch(&world,
				      "{\"image\":\"web\",\"name\":\"a\",\"ports\":[{\"network\":"
				      "\"back\",\"ipv4\":\"10.1.0.5\",\"mac\":"
				      "\"02:aa:00:00:00:01\"}]}"),
			 0);
	world_settle(&world);
	uint64_t revision = control_revision(world.control);
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		AUTO(free)
		char *body = mem_printf("{\"image\":\"web\",\"name\":\"b\",\"ports\":[%s]}",
					cases[i].port);

		assert_int_equal(world_launch(&world, body), cases[i].result);
		if (!strstr(world.err.msg, cases[i].words))
			fail_msg("%s: %s", cases[i].port, world.err.msg);
	}
	assert_true(control_revision(world.control) == revision);
	/* Published ports need a way in. */
	assert_int_equal(world_launch(&world,
				      "{\"image\":\"web\",\"ports\":[{\"network\":\"inside\"}],"
				      "\"publish\":[{\"host_port\":1,\"port\":1}]}"),
			 -EINVAL);
	assert_non_null(strstr(world.err.msg, "is isolated"));
	world_done(&world);
}

static void test_isolated_networks_may_be_alike(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	make_network(&world, "second", "10.9.0.0/29", true);
	assert_int_equal(world.result, 0);
	make_network(&world, "third", "10.1.0.0/16", true);
	assert_int_equal(world.result, 0);
	make_network(&world, "fourth", "10.1.0.0/16", false);
	assert_int_equal(world.result, -EEXIST);
	world_settle(&world);
	for (int i = 0; i < 2; i++) {
		const char *network = i ? "inside" : "second";
		AUTO(free)
		char *body = mem_printf("{\"image\":\"web\",\"name\":\"i%d\",\"ports\":[{"
					"\"network\":\"%s\",\"ipv4\":\"10.9.0.3\"}]}",
					i, network);

		assert_int_equal(world_launch(&world, body), 0);
		world_settle(&world);
	}
	expect_port(&world, "i0", 0, "second eth0 10.9.0.3");
	expect_port(&world, "i1", 0, "inside eth0 10.9.0.3");
	world_done(&world);
}

static void test_attach_and_detach(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\"}"), 0);
	world_settle(&world);
	assert_int_equal(attach(&world, "a", "back,ip=10.1.0.7"), 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	expect_port(&world, "a", 1, "back eth1 10.1.0.7");
	assert_int_equal(attach(&world, "a", "back"), -EEXIST);
	assert_int_equal(attach(&world, "nix", "back"), -ENOENT);
	assert_int_equal(attach(&world, "a", "nix"), -ENOENT);
	/* Its address is taken until the node has said that nobody uses it any more. */
	world.node_works = false;
	assert_int_equal(detach(&world, "a", "back"), 0);
	assert_int_equal(world_keys(&world, "/address/"), 3);
	assert_int_equal(attach(&world, "a", "back"), -EBUSY);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"ports\":[{\"network\":\"back\","
					      "\"ipv4\":\"10.1.0.7\"}]}"),
			 -EADDRINUSE);
	assert_int_equal(detach(&world, "a", "back"), 0);
	world.node_works = true;
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "done");
	assert_int_equal(world_keys(&world, "/address/"), 2);
	assert_int_equal(detach(&world, "a", "back"), -ENOENT);
	assert_non_null(strstr(world.err.msg, "is not attached to network \"back\""));
	/* A name stays with its port; the lowest free one is next. */
	assert_int_equal(attach(&world, "a", "back"), 0);
	world_settle(&world);
	assert_int_equal(detach(&world, "a", "default"), 0);
	world_settle(&world);
	assert_int_equal(attach(&world, "a", "inside"), 0);
	world_settle(&world);
	AUTO(json_decref) json_t *doc = show(&world, "a");
	AUTO(free) char *first = port_text(doc, 0);
	AUTO(free) char *second = port_text(doc, 1);
	assert_memory_equal(first, "back eth1 ", 10);
	assert_memory_equal(second, "inside eth0 ", 12);
	assert_true(number(doc, "meta", "generation") == number(doc, "status", "generation"));
	world_done(&world);
}

static void test_what_cannot_be_changed_now(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"v\",\"type\":\"vm\"}"),
			 0);
	world_settle(&world);
	/* One that runs is like any other; one that stands still cannot help. */
	assert_int_equal(attach(&world, "v", "back"), 0);
	world_settle(&world);
	assert_int_equal(detach(&world, "v", "back"), 0);
	world_settle(&world);
	/* Published ports must lead somewhere. */
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"p\",\"publish\":"
					      "[{\"host_port\":80,\"port\":80}]}"),
			 0);
	world_settle(&world);
	assert_int_equal(attach(&world, "p", "inside"), 0);
	world_settle(&world);
	assert_int_equal(detach(&world, "p", "default"), -EBUSY);
	assert_non_null(strstr(world.err.msg, "publishes ports"));
	assert_int_equal(attach(&world, "p", "back"), 0);
	world_settle(&world);
	assert_int_equal(detach(&world, "p", "default"), 0);
	world_done(&world);
}

static void test_what_the_node_cannot_make_is_taken_back(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\"}"), 0);
	world_settle(&world);
	world.broken = "back";
	assert_int_equal(attach(&world, "a", "back"), 0);
	world_settle(&world);
	assert_string_equal(world_operation(&world, "state"), "failed");
	assert_string_equal(world_operation(&world, "error"), "no such bridge");
	AUTO(json_decref) json_t *doc = show(&world, "a");
	assert_int_equal(json_array_size(ports_of(doc)), 1);
	assert_int_equal(world_keys(&world, "/address/"), 2);
	assert_true(number(doc, "meta", "generation") == number(doc, "status", "generation"));
	assert_null(member(doc, "status", "ports_error"));
	world_done(&world);
}

static void test_a_full_network(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\"}"), 0);
	world_settle(&world);
	for (int i = 0; i < 5; i++) {
		AUTO(free)
		char *body = mem_printf("{\"image\":\"web\",\"name\":\"i%d\",\"ports\":[{"
					"\"network\":\"inside\"}]}",
					i);

		assert_int_equal(world_launch(&world, body), 0);
	}
	world_settle(&world);
	assert_int_equal(attach(&world, "a", "inside"), -EDQUOT);
	assert_string_equal(world.err.msg, "network \"inside\" has no free address left");
	assert_int_equal(detach(&world, "i3", "inside"), 0);
	world_settle(&world);
	assert_int_equal(attach(&world, "a", "inside"), 0);
	world_done(&world);
}

/* Wherever brumed dies: an address is a port's, and a port has its address. */
static void test_killed_between_any_two_steps(void **state)
{
	bool killed = true;

	(void) state;
	for (unsigned int step = 1; killed; step++) {
		AUTO(port_done) struct port port = {};
		struct world world;
		size_t addresses;

		begin(&world);
		assert_int_equal(world_launch(&world, "{\"image\":\"web\",\"name\":\"a\"}"), 0);
		world_settle(&world);
		assert_int_equal(port_parse("back,mac=02:aa:00:00:00:01", &port, NULL), 0);
		world.kill_in = step;
		control_port_attach(world.control, "default", "a", &port, 0, world_answer, &world);
		world_settle(&world);
		control_port_detach(world.control, "default", "a", "default", 0, world_answer,
				    &world);
		world_settle(&world);
		killed = world.kills > 0;
		world_pass(&world, 3000);
		AUTO(json_decref) json_t *doc = show(&world, "a");
		addresses = 0;
		for (size_t i = 0; i < json_array_size(ports_of(doc)); i++) {
			const json_t *one = json_array_get(ports_of(doc), i);

			assert_null(json_object_get(one, "leaving"));
			/* Two of the default network; one and a hardware address in the other. */
			addresses += 2;
		}
		assert_int_equal(world_keys(&world, "/address/"), addresses);
		assert_true(number(doc, "meta", "generation") ==
			    number(doc, "status", "generation"));
		world_done(&world);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_disks_that_boot_are_answered),
		cmocka_unit_test(test_several_networks),
		cmocka_unit_test(test_refused_addresses),
		cmocka_unit_test(test_isolated_networks_may_be_alike),
		cmocka_unit_test(test_attach_and_detach),
		cmocka_unit_test(test_what_cannot_be_changed_now),
		cmocka_unit_test(test_what_the_node_cannot_make_is_taken_back),
		cmocka_unit_test(test_a_full_network),
		cmocka_unit_test(test_killed_between_any_two_steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
