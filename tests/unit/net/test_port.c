#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "net/port.h"
#include "net/publish.h"

static const struct bridge_spec network = { .uid = "ab",
					    .ipv4 = "10.90.0.0/24",
					    .ipv6 = "fd00:90::/64" };
static const struct port_spec good = {
	.network = &network, .uid = "cd", .name = "web", .ipv4 = "10.90.0.5", .ipv6 = "fd00:90::5"
};

static void refuses(struct port_spec spec, const char *words)
{
	struct error err = {};

	assert_int_equal(port_check(&spec, &err), -22);
	if (!strstr(err.msg, words))
		fail_msg("'%s' does not say '%s'", err.msg, words);
}

#define CHANGED(member, value)                                                                     \
	({                                                                                         \
		struct port_spec changed_ = good;                                                  \
		changed_.member = (value);                                                         \
		changed_;                                                                          \
	})

static void checks_ports(void **state)
{
	struct bridge_spec bad_network = network, only4 = network;
	struct port_spec spec = good;

	(void) state;
	bad_network.ipv4 = "x";
	only4.ipv6 = "";
	assert_int_equal(port_check(&spec, NULL), 0);
	spec.mac = "02:00:00:00:00:01";
	spec.ipv6 = "";
	assert_int_equal(port_check(&spec, NULL), 0);
	refuses(CHANGED(uid, "../cd"), "port uid");
	refuses(CHANGED(uid, NULL), "port uid");
	refuses(CHANGED(interface, "../eth0"), "interface");
	refuses(CHANGED(interface, ""), "interface");
	refuses(CHANGED(interface, "abcdefghijklmnop"), "interface");
	refuses(CHANGED(name, "a b"), "name");
	refuses(CHANGED(name, NULL), "name");
	refuses(CHANGED(mac, "ff:ff:ff:ff:ff:ff"), "mac");
	refuses(CHANGED(ipv4, "10.91.0.5"), "10.91.0.5");
	refuses(CHANGED(ipv4, "fd00:90::5"), "subnet");
	refuses(CHANGED(ipv4, "10.90.0.1"), "gateway");
	refuses(CHANGED(ipv6, "fd00:90::1"), "gateway");
	refuses(CHANGED(ipv6, "fd00:91::5"), "subnet");
	/* What the bridge has, which is made of its uid. */
	refuses(CHANGED(mac, "02:98:45:b5:07:44"), "gateway");
	refuses(CHANGED(network, &bad_network), "ipv4 subnet 'x'");
	refuses(CHANGED(network, &only4), "subnet");
}

static void checks_published_ports(void **state)
{
	static const struct publish_spec fine[] = {
		{ NULL, 80, 80, "tcp" },      { "", 65535, 1, "udp" },
		{ "0.0.0.0", 1, 1, "tcp" },   { "::", 1, 1, "udp" },
		{ "127.0.0.1", 1, 1, "tcp" }, { "2001:db8::1", 1, 1, "tcp" },
	};
	static const struct publish_spec bad[] = {
		{ NULL, 0, 80, "tcp" },    { NULL, 80, 0, "tcp" },   { NULL, 80, 80, "TCP" },
		{ NULL, 80, 80, NULL },    { NULL, 80, 80, "" },     { "1.2.3", 80, 80, "tcp" },
		{ "host", 80, 80, "tcp" }, { "::1", 80, 80, "tcp" }, { "fe80::1", 80, 80, "tcp" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(fine); i++)
		assert_int_equal(publish_check(&fine[i], NULL), 0);
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct error err = {};

		assert_int_equal(publish_check(&bad[i], &err), -22);
		assert_string_not_equal(err.msg, "");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checks_ports),
		cmocka_unit_test(checks_published_ports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
