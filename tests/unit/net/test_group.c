#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "base/error.h"
#include "net/group.h"

static int check(const struct group_rule *rule, struct error *err)
{
	return group_check(&(struct group_spec){ .uid = "a1",
						 .ingress = rule,
						 .ingress_count = 1,
						 .egress = rule,
						 .egress_count = 1 },
			   err);
}

static void good_rules_pass(void **state)
{
	static const struct group_rule rules[] = {
		{ .protocol = "any" },
		{ .protocol = "tcp", .port = 80, .last_port = 80 },
		{ .protocol = "udp", .port = 1, .last_port = 65535, .cidr = "10.0.0.0/8" },
		{ .protocol = "icmp", .cidr = "fd00::/8", .group = "" },
		{ .protocol = "any", .cidr = "0.0.0.0/0" },
		{ .protocol = "tcp", .group = "0123456789abcdef0123456789abcdef" },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		assert_int_equal(check(&rules[i], NULL), 0);
	assert_int_equal(group_check(&(struct group_spec){ .uid = "a1", .egress_all = true }, NULL),
			 0);
}

static void bad_rules_are_named(void **state)
{
	static const struct {
		struct group_rule rule;
		const char *words;
	} bad[] = {
		{ { .protocol = NULL }, "ingress rule 1: protocol ''" },
		{ { .protocol = "sctp" }, "protocol 'sctp'" },
		{ { .protocol = "icmp", .port = 8, .last_port = 8 }, "only tcp and udp" },
		{ { .protocol = "any", .port = 8, .last_port = 8 }, "only tcp and udp" },
		{ { .protocol = "tcp", .port = 90, .last_port = 80 }, "least to the greatest" },
		{ { .protocol = "tcp", .cidr = "10.0.0.1/8" }, "host bits zero" },
		{ { .protocol = "tcp", .cidr = "10.0.0.0/33" }, "must be like" },
		{ { .protocol = "tcp", .cidr = "10.0.0.0/8", .group = "a1" }, "not both" },
		{ { .protocol = "tcp", .group = "web" }, "group uid 'web'" },
	};
	struct error err = {};

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(check(&bad[i].rule, &err), -EINVAL);
		if (!strstr(err.msg, bad[i].words))
			fail_msg("\"%s\" lacks \"%s\"", err.msg, bad[i].words);
	}
	assert_int_equal(group_check(&(struct group_spec){ .uid = "A1" }, &err), -EINVAL);
	assert_int_equal(
		group_check(&(struct group_spec){ .uid = "a", .egress_count = GROUP_RULES_MAX + 1 },
			    &err),
		-E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_rules_pass),
		cmocka_unit_test(bad_rules_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
