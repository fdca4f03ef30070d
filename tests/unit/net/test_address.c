#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "net/address.h"

static struct route_ip subnet(const char *text)
{
	struct route_ip ret;

	assert_int_equal(address_parse_subnet(text, &ret), 0);
	return ret;
}

static struct route_ip ip(const char *text)
{
	struct route_ip ret;

	assert_int_equal(address_parse(text, &ret), 0);
	return ret;
}

static void parses_addresses(void **state)
{
	static const char *const good[] = { "10.0.0.1", "0.0.0.0", "fd00::1",
					    "::", "::ffff:1.2.3.4" };
	static const char *const bad[] = { "",          "10.0.0",       "10.0.0.256", "10.0.0.1/24",
					   " 10.0.0.1", "fd00::1%eth0", "fd00:::1",   "x",
					   "10.0.0.1\n" };
	struct route_ip ret;
	char text[ADDRESS_TEXT_SIZE];

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
		assert_int_equal(address_parse(good[i], &ret), 0);
		assert_string_equal(address_text(&ret, text), good[i]);
	}
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		assert_int_equal(address_parse(bad[i], &ret), -22);
	assert_int_equal(address_parse(NULL, &ret), -22);
}

static void parses_subnets(void **state)
{
	static const char *const bad[] = { "",
					   "10.0.0.0",
					   "10.0.0.0/",
					   "10.0.0.1/24",
					   "10.0.0.0/33",
					   "10.0.0.0/-1",
					   "10.0.0.0/+8",
					   "fd00::/129",
					   "fd00::1/64",
					   "10.0.0.0/24 ",
					   "/24",
					   "10.0.0.0/0000024",
					   "10.0.0.0/24/24",
					   "10.0.0.0/99999999999999999999" };
	struct route_ip ret;

	(void) state;
	assert_int_equal(subnet("10.90.0.0/24").prefix, 24);
	assert_int_equal(subnet("fd00::/64").prefix, 64);
	assert_int_equal(subnet("0.0.0.0/0").prefix, 0);
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		assert_int_equal(address_parse_subnet(bad[i], &ret), -22);
	assert_int_equal(address_parse_subnet(NULL, &ret), -22);
}

static void knows_usable_subnets(void **state)
{
	static const char *const good[] = { "10.0.0.0/8",  "192.168.4.0/30", "172.16.0.0/16",
					    "fd00:1::/64", "2001:db8::/32",  "fd00::/126" };
	static const char *const bad[] = { "0.0.0.0/0",   "127.0.0.0/24", "169.254.1.0/24",
					   "224.0.0.0/8", "10.0.0.0/31",  "10.0.0.0/7",
					   "::/64",       "fe80::/64",    "ff00::/64",
					   "fd00::/127",  "fd00::/16" };

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
		struct route_ip ret = subnet(good[i]);

		assert_true(address_usable_subnet(&ret));
	}
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct route_ip ret = subnet(bad[i]);

		assert_false(address_usable_subnet(&ret));
	}
}

static void compares(void **state)
{
	struct route_ip net = subnet("10.90.4.0/22"), net6 = subnet("fd00:0:0:8::/61");
	struct route_ip inside = ip("10.90.7.254"), outside = ip("10.90.8.0");
	struct route_ip inside6 = ip("fd00:0:0:f::1"), outside6 = ip("fd00:0:0:10::1");
	struct route_ip first = ip("10.90.4.0"), last = ip("10.90.7.255");
	struct route_ip larger = subnet("10.0.0.0/8"), other = subnet("10.90.8.0/22");

	(void) state;
	assert_true(address_inside(&net, &inside));
	assert_false(address_inside(&net, &outside));
	assert_true(address_inside(&net6, &inside6));
	assert_false(address_inside(&net6, &outside6));
	assert_false(address_inside(&net, &inside6));
	assert_true(address_is_host(&net, &inside));
	assert_false(address_is_host(&net, &first));
	assert_false(address_is_host(&net, &last));
	assert_true(address_overlap(&net, &larger));
	assert_true(address_overlap(&larger, &net));
	assert_false(address_overlap(&net, &other));
	assert_false(address_overlap(&net, &net6));
}

static void finds_ends(void **state)
{
	struct route_ip net = subnet("10.90.4.0/22"), net6 = subnet("fd00:0:0:8::/61");
	struct route_ip first = address_first(&net), last = address_last(&net);
	struct route_ip first6 = address_first(&net6), last6 = address_last(&net6);
	char text[ADDRESS_TEXT_SIZE];

	(void) state;
	assert_string_equal(address_text(&first, text), "10.90.4.1");
	assert_string_equal(address_text(&last, text), "10.90.7.255");
	assert_string_equal(address_text(&first6, text), "fd00:0:0:8::1");
	assert_string_equal(address_text(&last6, text), "fd00::f:ffff:ffff:ffff:ffff");
	assert_int_equal(first.prefix, 22);
}

static void a_subnet_has_no_host_bits(void **state)
{
	static const struct {
		const char *ip;
		uint8_t prefix;
		const char *subnet;
	} cases[] = { { "10.90.3.7", 24, "10.90.3.0/24" }, { "10.90.3.7", 30, "10.90.3.4/30" },
		      { "10.90.3.7", 32, "10.90.3.7/32" }, { "10.90.3.7", 0, "0.0.0.0/0" },
		      { "fd00:1::9", 64, "fd00:1::/64" },  { "fd00:1::9", 127, "fd00:1::8/127" } };

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct route_ip from = ip(cases[i].ip), wanted = subnet(cases[i].subnet), got;

		from.prefix = cases[i].prefix;
		from.metric = 7;
		got = address_subnet(&from);
		assert_true(address_equal(&got, &wanted));
		assert_int_equal(got.metric, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_addresses),          cmocka_unit_test(parses_subnets),
		cmocka_unit_test(knows_usable_subnets),      cmocka_unit_test(compares),
		cmocka_unit_test(a_subnet_has_no_host_bits), cmocka_unit_test(finds_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
