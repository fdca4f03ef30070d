#include "world.h"

/* Networks whose segment is somebody else's: what they lack is refused before anything is made. */

static int make(struct world *world, const char *text)
{
	AUTO(network_request_free) struct network_request *request = NULL;
	AUTO(json_decref) json_t *doc = json_loads(text, 0, NULL);

	assert_non_null(doc);
	assert_int_equal(network_request_decode(doc, &request, &world->err), 0);
	control_network_create(world->control, "default", request, world_answer, world);
	world_await(world);
	return world->result;
}

static void begin(struct world *world)
{
	world_init(world);
	world_hello(world);
	assert_int_equal(make(world, "{\"name\":\"lan\",\"driver\":\"macvlan\",\"uplink\":\"eth1\","
				     "\"ipv4\":\"192.168.1.0/24\",\"range4\":"
				     "\"192.168.1.200-192.168.1.202\"}"),
			 0);
	world_settle(world);
}

static int launch(struct world *world, const char *name, const char *rest)
{
	AUTO(free) char *text = mem_printf("{\"image\":\"web\",\"name\":\"%s\",%s}", name, rest);
	int r = world_launch(world, text);

	world_settle(world);
	return r;
}

static void expect_address(struct world *world, const char *name, const char *ipv4)
{
	AUTO(json_decref) json_t *doc = NULL;
	const json_t *port;

	assert_int_equal(
		control_get(world->control, KIND_INSTANCE, "default", name, &doc, &world->err), 0);
	port = json_array_get(json_object_get(json_object_get(doc, "spec"), "ports"), 0);
	assert_string_equal(json_string_value(json_object_get(port, "ipv4")), ipv4);
}

#define ON_LAN "\"ports\":[{\"network\":\"lan\"}]"

static void addresses_come_from_the_range(void **state)
{
	struct world world;
	bool seen[3] = {};

	(void) state;
	begin(&world);
	for (int i = 0; i < 3; i++) {
		char name[] = { (char) ('a' + i), '\0' };
		AUTO(json_decref) json_t *doc = NULL;
		const json_t *port;
		const char *address;

		assert_int_equal(launch(&world, name, ON_LAN), 0);
		assert_int_equal(control_get(world.control, KIND_INSTANCE, "default", name, &doc,
					     &world.err),
				 0);
		port = json_array_get(json_object_get(json_object_get(doc, "spec"), "ports"), 0);
		address = json_string_value(json_object_get(port, "ipv4"));
		assert_int_equal(strncmp(address, "192.168.1.20", 12), 0);
		assert_true(address[12] >= '0' && address[12] <= '2' && !address[13]);
		assert_false(seen[address[12] - '0']);
		seen[address[12] - '0'] = true;
	}
	assert_int_equal(launch(&world, "d", ON_LAN), -EDQUOT);
	/* Who asks may have any of the subnet, but for the gateway's. */
	assert_int_equal(
		launch(&world, "e", "\"ports\":[{\"network\":\"lan\",\"ipv4\":\"192.168.1.9\"}]"),
		0);
	expect_address(&world, "e", "192.168.1.9");
	assert_int_equal(
		launch(&world, "f", "\"ports\":[{\"network\":\"lan\",\"ipv4\":\"192.168.1.1\"}]"),
		-EINVAL);
	world_done(&world);
}

static void what_it_lacks_is_refused(void **state)
{
	static const struct {
		const char *rest, *words;
	} bad[] = {
		{ "\"ports\":[{\"network\":\"lan\",\"groups\":[\"web\"]}]",
		  "network \"lan\" has driver macvlan, which has no security groups; use one of "
		  "driver bridge" },
		{ ON_LAN ",\"publish\":[{\"host_port\":80,\"port\":80}]",
		  "publish: network \"lan\" has driver macvlan, which has no published ports" },
		{ "\"ports\":[{\"network\":\"lan\"},{\"network\":\"default\"}],\"publish\":[{"
		  "\"host_port\":80,\"port\":80}]",
		  "publish: network \"lan\"" },
	};
	struct world world;

	(void) state;
	begin(&world);
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		assert_int_equal(launch(&world, "x", bad[i].rest), -EINVAL);
		if (!strstr(world.err.msg, bad[i].words))
			fail_msg("%s: %s", bad[i].rest, world.err.msg);
		assert_int_equal(world_keys(&world, "/address/"), 0);
	}
	/* The first with a gateway is where published ports lead. */
	assert_int_equal(launch(&world, "y",
				"\"ports\":[{\"network\":\"default\"},{\"network\":\"lan\"}],"
				"\"publish\":[{\"host_port\":80,\"port\":80}]"),
			 0);
	control_port_detach(world.control, "default", "y", "default", 0, world_answer, &world);
	world_await(&world);
	assert_int_equal(world.result, -EBUSY);
	world_done(&world);
}

static void passthru_has_one(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(make(&world,
			      "{\"name\":\"one\",\"driver\":\"macvlan\",\"uplink\":\"eth2\","
			      "\"mode\":\"passthru\",\"ipv4\":\"192.168.2.0/24\"}"),
			 0);
	world_settle(&world);
	assert_int_equal(launch(&world, "a", "\"ports\":[{\"network\":\"one\"}]"), 0);
	assert_int_equal(launch(&world, "b", "\"ports\":[{\"network\":\"one\"}]"), -EBUSY);
	assert_non_null(strstr(world.err.msg, "takes one instance only, and \"a\" has it"));
	world_done(&world);
}

static void a_lan_may_be_like_another(void **state)
{
	struct world world;

	(void) state;
	begin(&world);
	assert_int_equal(make(&world,
			      "{\"name\":\"lan2\",\"driver\":\"physical\",\"uplink\":\"br0\","
			      "\"ipv4\":\"192.168.1.0/24\"}"),
			 0);
	assert_int_equal(make(&world, "{\"name\":\"own\",\"driver\":\"ovs\"}"), 0);
	world_settle(&world);
	assert_int_equal(world_count(&world, KIND_NETWORK), 4);
	world_done(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_come_from_the_range),
		cmocka_unit_test(what_it_lacks_is_refused),
		cmocka_unit_test(passthru_has_one),
		cmocka_unit_test(a_lan_may_be_like_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
