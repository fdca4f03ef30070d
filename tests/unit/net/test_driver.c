#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "net/network.h"
#include "net/port.h"

static const struct bridge_spec lan = {
	.uid = "ab", .ipv4 = "192.168.1.0/24", .driver = "macvlan", .uplink = "eth1", .mtu = 1400
};

static void accepts(const struct bridge_spec *spec)
{
	struct error err = {};

	if (network_check(spec, &err) < 0)
		fail_msg("%s", err.msg);
}

static void refuses(const struct bridge_spec *spec, const char *words)
{
	struct error err = {};

	assert_int_equal(network_check(spec, &err), -EINVAL);
	if (!strstr(err.msg, words))
		fail_msg("%s", err.msg);
}

static void every_driver(void **state)
{
	static const char *const modes[] = { "", "bridge", "private", "vepa", "passthru", NULL };
	struct bridge_spec spec = lan;

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(modes); i++) {
		spec.mode = modes[i];
		accepts(&spec);
	}
	spec.driver = "physical";
	accepts(&spec);
	spec.driver = "ovs";
	accepts(&spec);
	spec.uplink = NULL;
	accepts(&spec);
	/* The mtu is the uplink's, when none is asked for. */
	spec.mtu = 0;
	accepts(&spec);
	spec.driver = "bridge";
	accepts(&spec);
}

static void what_cannot_be(void **state)
{
#define CHANGED(...)                                                                               \
	(&(struct bridge_spec){ .uid = "ab", .ipv4 = "192.168.1.0/24", .mtu = 1400, __VA_ARGS__ })
	(void) state;
	refuses(CHANGED(.driver = "ipvlan"), "must be bridge, macvlan, physical or ovs");
	refuses(CHANGED(.driver = "macvlan", .uplink = "eth1", .mode = "loud"), "must be private");
	refuses(CHANGED(.driver = "physical", .uplink = "br0", .mode = "bridge"), "only driver");
	refuses(CHANGED(.mode = "bridge"), "only driver macvlan has modes");
	refuses(CHANGED(.driver = "macvlan"), "driver macvlan needs an uplink");
	refuses(CHANGED(.driver = "physical"), "driver physical needs an uplink");
	refuses(CHANGED(.uplink = "eth1"), "driver bridge has none");
	refuses(CHANGED(.driver = "macvlan", .uplink = "a/b"), "not the name of an interface");
	refuses(CHANGED(.driver = "macvlan", .uplink = ".."), "not the name of an interface");
	refuses(CHANGED(.driver = "macvlan", .uplink = "sixteen-letters-"), "not the name");
	refuses(CHANGED(.driver = "macvlan", .uplink = "eth1", .nat = true), "driver bridge has");
	refuses(CHANGED(.driver = "ovs", .isolated = true), "driver bridge has");
	refuses(CHANGED(.driver = "ovs", .tunnel = { .vni = 7 }), "driver bridge has");
	refuses(CHANGED(.driver = "macvlan", .uplink = "eth1", .gateway4 = "10.0.0.1"),
		"must be an address of 192.168.1.0/24");
#undef CHANGED
}

/* Where nobody is the gateway, its address is one like others. */
static void the_gateway_is_who_is_named(void **state)
{
	struct bridge_spec spec = lan;
	struct port_spec port = {
		.network = &spec, .uid = "cd", .name = "web", .ipv4 = "192.168.1.1"
	};
	struct error err = {};

	(void) state;
	assert_int_equal(port_check(&port, &err), 0);
	spec.gateway4 = "192.168.1.1";
	assert_int_equal(port_check(&port, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "is the network's gateway"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_driver),
		cmocka_unit_test(what_cannot_be),
		cmocka_unit_test(the_gateway_is_who_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
