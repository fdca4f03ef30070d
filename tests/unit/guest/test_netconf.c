#include "guest/netconf.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/cleanup.h"

static void test_addresses(void **test_state)
{
	struct netconf_address address;

	(void) test_state;
	assert_int_equal(netconf_parse_address("10.90.0.2/24", &address), 0);
	assert_int_equal(address.family, AF_INET);
	assert_int_equal(address.prefix, 24);
	assert_memory_equal(address.bytes, "\x0a\x5a\x00\x02", 4);
	assert_int_equal(netconf_parse_address("fd00::2/64", &address), 0);
	assert_int_equal(address.family, AF_INET6);
	assert_int_equal(address.prefix, 64);
	assert_int_equal(address.bytes[15], 2);
	assert_int_equal(netconf_parse_address("10.0.0.1", &address), 0);
	assert_int_equal(address.prefix, 32);
	assert_int_equal(netconf_parse_address("::1", &address), 0);
	assert_int_equal(address.prefix, 128);
}

static void test_bad_addresses(void **test_state)
{
	static const char *const bad[] = {
		"",
		"10.0.0",
		"10.0.0.1/33",
		"10.0.0.1/",
		"10.0.0.1/-1",
		"10.0.0.1/x",
		"fd00::/129",
		"10.0.0.1/24x",
		"name",
		"/24",
		"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc/64",
	};
	struct netconf_address address;

	(void) test_state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		assert_int_equal(netconf_parse_address(bad[i], &address), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_bad_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
