#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/strbuf.h"
#include "net/address.h"
#include "net/balance.h"
#include "net/balance_text_internal.h"

static const struct balance_listen web = { .protocol = "tcp", .port = 80, .target_port = 8080 };

static void refuse(const struct balance_spec *spec, const char *words)
{
	struct error err = {};

	assert_true(balance_check(spec, &err) < 0);
	if (!strstr(err.msg, words))
		fail_msg("\"%s\" is not in \"%s\"", words, err.msg);
	assert_null(strchr(err.msg, '\n'));
}

static void test_check(void **state)
{
	struct balance_member member = { .ipv4 = "10.0.0.2" };
	struct balance_spec good = { .uid = "ab",
				     .network_uid = "cd",
				     .listens = &web,
				     .listen_count = 1,
				     .members = &member,
				     .member_count = 1 };
	struct balance_spec bad;
	struct balance_listen listen;

	(void) state;
	assert_int_equal(balance_check(&good, NULL), 0);
	bad = good;
	bad.uid = "a; flush ruleset";
	refuse(&bad, "uid");
	bad = good;
	bad.listen_count = 0;
	refuse(&bad, "1 to 64 ports");
	bad.listen_count = BALANCE_LISTEN_MAX + 1;
	refuse(&bad, "1 to 64 ports");
	bad = good;
	bad.member_count = BALANCE_MEMBER_MAX + 1;
	refuse(&bad, "1000 members at most");
	bad = good;
	bad.vip4 = "fd00::1";
	refuse(&bad, "must be an IPv4 address");
	bad = good;
	bad.listens = &listen;
	listen = web;
	listen.protocol = "icmp";
	refuse(&bad, "must be tcp or udp");
	listen = web;
	listen.target_port = 0;
	refuse(&bad, "1 to 65535");
	listen = web;
	listen.vip = true;
	refuse(&bad, "no address of its own");
	listen = web;
	listen.address = "10.0.0.1 }";
	refuse(&bad, "must be an IP address");
	member.ipv4 = "10.0.0.1; drop";
	refuse(&good, "must be an IPv4 address");
}

static struct balance_place place_at(const char *address, bool vip)
{
	struct balance_place place = {
		.protocol = IPPROTO_TCP, .port = 80, .target_port = 8080, .vip = vip
	};

	if (address)
		assert_int_equal(address_parse(address, &place.address), 0);
	return place;
}

static void test_elements(void **state)
{
	AUTO(strbuf_done) struct strbuf script = {};
	struct balance_place any = place_at(NULL, false), one = place_at("fd00::9", false);
	struct balance_element element;
	struct route_ip vip;

	(void) state;
	balance_element_make(&element, BALANCE_ANY, NULL, NULL, &any);
	balance_chain_name("ab", &any, element.chain);
	balance_put_element(&script, "brume", true, &element, "ab");
	balance_element_make(&element, BALANCE_NODE6, NULL, &one.address, &one);
	balance_chain_name("ab", &one, element.chain);
	balance_put_element(&script, "brume", true, &element, "ab");
	assert_int_equal(address_parse("10.0.0.9", &vip), 0);
	balance_element_make(&element, BALANCE_HOME4, "brume-cd", &vip, NULL);
	balance_put_element(&script, "brume", false, &element, NULL);
	assert_string_equal(
		strbuf_str(&script),
		"add element inet brume-b any { tcp . 80 comment \"ab\" : jump b-ab-tcp-80-any }\n"
		"add element inet brume-b node6 { fd00::9 . tcp . 80 comment \"ab\" : jump "
		"b-ab-tcp-80-fd000000000000000000000000000009 }\n"
		"delete element inet brume-b home4 { \"brume-cd\" . 10.0.0.9 }\n");
}

static void test_chain(void **state)
{
	AUTO(strbuf_done) struct strbuf script = {};
	struct balance_place vip = place_at(NULL, true);

	(void) state;
	balance_put_chain(&script, "p", "ab", &vip, BALANCE_LEAST_CONNECTIONS, 64, 0);
	assert_string_equal(strbuf_str(&script),
			    "add chain inet p-b b-ab-tcp-80-vip\n"
			    "flush chain inet p-b b-ab-tcp-80-vip\n"
			    "add rule inet p-b b-ab-tcp-80-vip meta nfproto ipv4 meta l4proto tcp "
			    "dnat ip to numgen random mod 64 map @m4-ab : 8080\n"
			    "add rule inet p-b b-ab-tcp-80-vip meta l4proto tcp reject with tcp "
			    "reset\n");
}

static void test_skeleton(void **state)
{
	AUTO(strbuf_done) struct strbuf both = {};
	AUTO(strbuf_done) struct strbuf old = {};

	(void) state;
	balance_put_skeleton(&both, "brume", true);
	assert_non_null(strstr(strbuf_str(&both), "iifname != \"brume-*\" ip6 daddr"));
	assert_null(strchr(strbuf_str(&both), '%'));
	balance_put_skeleton(&old, "brume", false);
	assert_null(strstr(strbuf_str(&old), "ip6"));
	assert_null(strstr(strbuf_str(&old), "ipv6"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_elements),
		cmocka_unit_test(test_chain),
		cmocka_unit_test(test_skeleton),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
