#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "net/network.h"

static const struct bridge_spec good = {
	.uid = "ab12", .ipv4 = "10.90.0.0/24", .ipv6 = "fd00:90::/64", .nat = true
};

static void accepts(const struct bridge_spec *spec)
{
	struct error err = {};

	assert_int_equal(network_check(spec, &err), 0);
}

static void refuses(struct bridge_spec spec, const char *words)
{
	struct error err = {};

	assert_int_equal(network_check(&spec, &err), -22);
	if (!strstr(err.msg, words))
		fail_msg("'%s' does not say '%s'", err.msg, words);
	assert_null(strchr(err.msg, '\n'));
	assert_int_equal(network_check(&spec, NULL), -22);
}

static void checks_what_is_asked_for(void **state)
{
	struct bridge_spec spec = good;

	(void) state;
	accepts(&spec);
	spec.gateway4 = "10.90.0.254";
	spec.gateway6 = "fd00:90::ffff";
	spec.mtu = 9000;
	spec.dns_domain = "cloud.example";
	spec.zone = "web.default.internal";
	spec.project = "default";
	spec.dhcp = true;
	accepts(&spec);
	spec.ipv6 = spec.gateway6 = NULL;
	spec.mtu = 576;
	accepts(&spec);
	spec.nat = false;
	spec.advertise = true;
	accepts(&spec);
}

#define CHANGED(member, value)                                                                     \
	({                                                                                         \
		struct bridge_spec changed_ = good;                                                \
		changed_.member = (value);                                                         \
		changed_;                                                                          \
	})

static void refuses_what_cannot_be(void **state)
{
	struct bridge_spec none = { .uid = "a" };

	(void) state;
	refuses(CHANGED(uid, NULL), "network uid");
	refuses(CHANGED(uid, "x/../y"), "network uid");
	refuses(CHANGED(ipv4, "10.90.0.1/24"), "10.90.0.1/24");
	refuses(CHANGED(ipv4, "fd00::/64"), "ipv4 subnet");
	refuses(CHANGED(ipv6, "10.0.0.0/24"), "ipv6 subnet");
	refuses(CHANGED(ipv4, "127.0.0.0/8"), "cannot live");
	refuses(CHANGED(gateway4, "10.91.0.1"), "must be an address of 10.90.0.0/24");
	refuses(CHANGED(gateway4, "10.90.0.0"), "gateway");
	refuses(CHANGED(gateway4, "10.90.0.255"), "gateway");
	refuses(CHANGED(gateway6, "10.90.0.1"), "gateway");
	refuses(CHANGED(mtu, 1000), "1280 to 65535");
	refuses(CHANGED(mtu, 65536), "1280 to 65535");
	refuses(CHANGED(dns_domain, "a b"), "dns_domain");
	refuses(CHANGED(dns_domain, "x/\nuser=root"), "dns_domain");
	refuses(CHANGED(zone, "x/\nuser=root"), "no names");
	refuses(CHANGED(zone, "web.default.internal"), "of project ''");
	refuses(CHANGED(advertise, true), "only a routed network");
	none.isolated = none.dhcp = true;
	none.ipv4 = "10.0.0.0/24";
	refuses(none, "dhcp");
	none = (struct bridge_spec){ .uid = "a" };
	refuses(none, "neither");
	none.gateway4 = "10.0.0.1";
	refuses(none, "without a subnet");
}

static struct bridge_spec tunnelled(uint32_t vni, const char *local, char *const *remotes)
{
	struct bridge_spec spec = good;

	spec.tunnel = (struct tunnel_spec){ .vni = vni, .local = local, .remotes = remotes };
	return spec;
}

static void checks_gre(void **state)
{
	char *four[] = { (char *) "192.0.2.1", (char *) "192.0.2.2", NULL };
	char *six[] = { (char *) "2001:db8::1", NULL };
	struct bridge_spec spec = tunnelled(4000000000, "192.0.2.9", four);

	(void) state;
	spec.tunnel.gre = true;
	accepts(&spec);
	spec.tunnel.port = 4789;
	refuses(spec, "no ports");
	spec = tunnelled(7, "2001:db8::9", four);
	spec.tunnel.gre = true;
	refuses(spec, "of the peers' kind");
	spec = tunnelled(7, NULL, six);
	spec.tunnel.gre = true;
	accepts(&spec);
	spec = tunnelled(7, "2001:db8::9", six);
	spec.tunnel.gre = true;
	accepts(&spec);
}

static void checks_tunnels(void **state)
{
	char *four[] = { (char *) "192.0.2.1", (char *) "192.0.2.2", NULL };
	char *mixed[] = { (char *) "192.0.2.1", (char *) "2001:db8::1", NULL };
	char *wrong[] = { (char *) "node-b", NULL };
	char *many[66];
	struct bridge_spec spec = tunnelled(16777215, "192.0.2.9", four);

	(void) state;
	accepts(&spec);
	spec = tunnelled(1, NULL, NULL);
	accepts(&spec);
	refuses(tunnelled(16777216, NULL, four), "vni 16777216");
	refuses(tunnelled(7, NULL, mixed), "all IPv6");
	refuses(tunnelled(7, "2001:db8::9", four), "of the peers' kind");
	refuses(tunnelled(7, "eth0", NULL), "tunnel address 'eth0'");
	refuses(tunnelled(7, NULL, wrong), "peer 'node-b'");
	for (size_t i = 0; i < 65; i++)
		many[i] = four[0];
	many[65] = NULL;
	refuses(tunnelled(7, NULL, many), "at most 64");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checks_what_is_asked_for),
		cmocka_unit_test(refuses_what_cannot_be),
		cmocka_unit_test(checks_tunnels),
		cmocka_unit_test(checks_gre),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
