#include "model_test.h"

#include "model/address.h"

static void test_ip(void **state)
{
	static const char *const good[] = { "10.0.0.1", "255.255.255.255", "fd00::1", "::" };
	static const char *const bad[] = {
		"", "10.0.0", "10.0.0.256", "fd00:::1", "x", "10.0.0.1 "
	};
	char text[IP_TEXT_SIZE];
	struct ip ip, other;

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
		assert_int_equal(ip_parse(good[i], &ip), 0);
		ip_format(&ip, text);
		assert_string_equal(text, good[i]);
	}
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		assert_int_equal(ip_parse(bad[i], &ip), -EINVAL);
	assert_int_equal(ip_parse(NULL, &ip), -EINVAL);
	ip_parse("FD00:0::1", &ip);
	ip_parse("fd00::1", &other);
	assert_true(ip_equal(&ip, &other));
}

static void test_subnet_parse(void **state)
{
	static const struct {
		const char *text;
		int family;
		const char *word; /* of the message; NULL = good */
	} cases[] = {
		{ "10.90.0.0/24", 4, NULL },
		{ "0.0.0.0/0", 0, NULL },
		{ "fd12:3456::/64", 6, NULL },
		{ "10.90.0.1/24", 4, "did you mean 10.90.0.0/24?" },
		{ "10.90.0.0", 4, "not a subnet" },
		{ "10.90.0.0/", 4, "prefix of 0 to 32" },
		{ "10.90.0.0/33", 4, "prefix of 0 to 32" },
		{ "10.90.0.0/-1", 4, "prefix" },
		{ "10.90.0.0/24x", 4, "prefix" },
		{ "10.90.0.0/24", 6, "like fd00:1::/64" },
		{ "fd00::/129", 0, "prefix of 0 to 128" },
	};
	struct subnet subnet;
	struct error err;

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		int r = subnet_parse(cases[i].text, cases[i].family, "ipv4", &subnet, &err);

		assert_int_equal(r, cases[i].word ? -EINVAL : 0);
		if (cases[i].word) {
			assert_memory_equal(err.msg, "ipv4: ", 6);
			assert_non_null(strstr(err.msg, cases[i].word));
		} else {
			char text[SUBNET_TEXT_SIZE];

			subnet_format(&subnet, text);
			assert_string_equal(text, cases[i].text);
		}
	}
}

static void test_subnet_hosts(void **state)
{
	struct subnet small, six, wide;
	char text[IP_TEXT_SIZE];
	struct ip ip;

	(void) state;
	assert_int_equal(subnet_parse("10.90.4.0/22", 4, "", &small, NULL), 0);
	assert_int_equal(subnet_parse("fd00::/64", 6, "", &six, NULL), 0);
	assert_int_equal(subnet_parse("10.0.0.0/8", 4, "", &wide, NULL), 0);
	assert_int_equal(subnet_host_count(&small), 1022);
	assert_int_equal(subnet_host_count(&six), UINT32_MAX);
	subnet_nth(&small, 1022, &ip);
	ip_format(&ip, text);
	assert_string_equal(text, "10.90.7.254");
	assert_int_equal(subnet_index(&small, &ip), 1022);
	ip_parse("10.90.7.255", &ip);
	assert_int_equal(subnet_index(&small, &ip), 0); /* broadcast */
	assert_true(subnet_contains(&small, &ip));
	ip_parse("10.90.8.1", &ip);
	assert_int_equal(subnet_index(&small, &ip), 0);
	subnet_nth(&six, 258, &ip);
	ip_format(&ip, text);
	assert_string_equal(text, "fd00::102");
	assert_int_equal(subnet_index(&six, &ip), 258);
	assert_true(subnet_overlaps(&small, &wide));
	assert_true(subnet_overlaps(&wide, &small));
	assert_false(subnet_overlaps(&wide, &six));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ip),
		cmocka_unit_test(test_subnet_parse),
		cmocka_unit_test(test_subnet_hosts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
