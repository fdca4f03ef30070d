#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "net/name.h"

#define UID "0123456789abcdef0123456789abcdef"

static void checks_names(void **state)
{
	char label[65] = {}, domain[NAME_DOMAIN_MAX + 2];
	char name[IF_NAMESIZE], other[IF_NAMESIZE];

	(void) state;
	memset(label, 'a', 63);
	assert_true(name_is_label(label));
	label[63] = 'a';
	assert_false(name_is_label(label));
	assert_true(name_is_label("web-1") && name_is_label("W") && name_is_label("1"));
	assert_false(name_is_label("") || name_is_label("-a") || name_is_label("a-") ||
		     name_is_label("a.b") || name_is_label("a b") ||
		     name_is_label("a\n10.0.0.1 b") || name_is_label("\xc3\xa4") ||
		     name_is_label(NULL));
	memset(domain, 'a', sizeof(domain));
	for (size_t i = 40; i < sizeof(domain); i += 40)
		domain[i] = '.';
	domain[NAME_DOMAIN_MAX + 1] = '\0';
	assert_false(name_is_domain(domain));
	domain[NAME_DOMAIN_MAX] = '\0';
	assert_true(name_is_domain(domain));
	name_gre("brume", "ab", "192.0.2.1", name);
	name_gre("brume", "ab", "192.0.2.2", other);
	assert_string_not_equal(name, other);
	assert_int_equal(strlen(name), IF_NAMESIZE - 1);
	assert_string_equal(name_of_gre("brume", name), name + 6);
	assert_null(name_of_gre("brum", name));
	assert_null(name_of_gre("brume", "gretap0"));
	assert_true(name_is_domain("brume.internal") && name_is_domain("x"));
	assert_false(name_is_domain("") || name_is_domain(".x") || name_is_domain("x.") ||
		     name_is_domain("x..y") || name_is_domain("x/y") || name_is_domain(NULL));
	assert_true(name_is_prefix("brume") && name_is_prefix("a1234567"));
	assert_false(name_is_prefix("") || name_is_prefix("a12345678") || name_is_prefix("Brume") ||
		     name_is_prefix("a-b") || name_is_prefix(NULL));
	assert_true(name_is_uid("0") && name_is_uid(UID));
	assert_false(name_is_uid("") || name_is_uid(UID "0") || name_is_uid("ABC") ||
		     name_is_uid("../x") || name_is_uid(NULL));
}

static void builds_interface_names(void **state)
{
	char name[IF_NAMESIZE];

	(void) state;
	name_bridge("brume", UID, name);
	assert_string_equal(name, "brume-012345678");
	assert_string_equal(name_of_bridge("brume", name), "012345678");
	assert_null(name_of_veth("brume", name));
	name_veth("brume", UID, name);
	assert_string_equal(name, "brumev012345678");
	assert_string_equal(name_of_veth("brume", name), "012345678");
	name_veth("a1234567", "ab", name);
	assert_string_equal(name, "a1234567vab");
}

/* Whatever two prefixes are, neither node takes the other's interfaces for its own. */
static void prefixes_do_not_meet(void **state)
{
	static const char *const prefixes[] = { "b", "bv", "bva", "bvv", "bvab", "b1", "bv1" };
	char name[IF_NAMESIZE];

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(prefixes); i++)
		for (size_t k = 0; k < ARRAY_COUNT(prefixes); k++) {
			name_veth(prefixes[i], UID, name);
			assert_int_equal(name_of_veth(prefixes[k], name) != NULL, i == k);
			assert_null(name_of_bridge(prefixes[k], name));
			name_bridge(prefixes[i], UID, name);
			assert_int_equal(name_of_bridge(prefixes[k], name) != NULL, i == k);
			assert_null(name_of_veth(prefixes[k], name));
		}
}

static void parses_mac(void **state)
{
	static const char *const bad[] = { "",
					   "02:00:00:00:00",
					   "01:00:00:00:00:01",
					   "00:00:00:00:00:00",
					   "02:00:00:00:00:0g",
					   "02-00-00-00-00-01",
					   "02:00:00:00:00:01:02",
					   "2:0:0:0:0:1",
					   "02:00:00:00:00:1 " };
	uint8_t mac[6], other[6];

	(void) state;
	assert_int_equal(name_parse_mac("02:00:5e:10:Ab:01", mac), 0);
	assert_memory_equal(mac, "\x02\x00\x5e\x10\xab\x01", 6);
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		assert_int_equal(name_parse_mac(bad[i], mac), -22);
	assert_int_equal(name_parse_mac(NULL, mac), -22);
	name_mac(UID, mac);
	name_mac("1", other);
	assert_int_equal(mac[0], 2);
	assert_memory_not_equal(mac, other, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checks_names),
		cmocka_unit_test(builds_interface_names),
		cmocka_unit_test(prefixes_do_not_meet),
		cmocka_unit_test(parses_mac),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
