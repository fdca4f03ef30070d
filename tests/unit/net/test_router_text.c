#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "base/error.h"
#include "base/mem.h"
#include "net/router_internal.h"

/* Plans of routers, and the rules that are made of them. */

static const struct router_leg leg_a = { .network_uid = "a1",
					 .subnet4 = "10.1.0.0/24",
					 .subnet6 = "fd01::/64",
					 .ipv4 = "10.1.0.1",
					 .ipv6 = "fd01::1",
					 .mtu = 1500 },
			       leg_b = { .network_uid = "b2",
					 .subnet4 = "10.2.0.0/24",
					 .ipv4 = "10.2.0.1",
					 .mtu = 1400 };

/* A router between both, with an uplink. */
static struct router_setup make_setup(struct router_leg legs[2])
{
	legs[0] = leg_a;
	legs[1] = leg_b;
	return (struct router_setup){ .uid = "77",
				      .legs = legs,
				      .leg_count = 2,
				      .uplink = true,
				      .nat = true,
				      .transit = "100.64.3.8" };
}

static struct router_plan *plan_of(const struct router_setup *setup)
{
	struct router_plan *plan = mem_new0(struct router_plan);
	struct error err = {};

	if (router_plan(NULL, setup, plan, &err) < 0)
		fail_msg("%s", err.msg);
	return plan;
}

static void expect_refused(const struct router_setup *setup, const char *words)
{
	AUTO(free) struct router_plan *plan = mem_new0(struct router_plan);
	struct error err = {};
	int r = router_plan(NULL, setup, plan, &err);

	if ((r != -EINVAL && r != -E2BIG) || !strstr(err.msg, words))
		fail_msg("\"%s\" is not in \"%s\" (%d)", words, err.msg, r);
}

static void ends_of_the_transit_link(void **state)
{
	struct router_leg legs[2];
	struct router_setup setup = make_setup(legs);
	AUTO(free) struct router_plan *plan = plan_of(&setup);

	(void) state;
	assert_memory_equal(plan->node4.bytes, ((uint8_t[]){ 100, 64, 3, 8 }), 4);
	assert_memory_equal(plan->own4.bytes, ((uint8_t[]){ 100, 64, 3, 9 }), 4);
	assert_int_equal(plan->own4.prefix, 31);
	/* IPv6's have the same number. */
	assert_memory_equal(plan->node6.bytes,
			    ((uint8_t[]){ 0xfd, 0x62, 0x72, 0x75, 0x6d, 0x65, 0x64, 0, 0, 0, 0, 0,
					  0, 0, 3, 8 }),
			    16);
	assert_int_equal(plan->own6.bytes[15], 9);
	assert_int_equal(plan->own6.prefix, 127);
	assert_string_equal(plan->legs[0].inside, "na1");
	assert_int_equal(plan->legs[0].ipv4.prefix, 24);
	assert_int_equal(plan->legs[1].ipv6.family, 0);
	assert_memory_not_equal(plan->legs[0].mac, plan->legs[1].mac, LINK_MAC_SIZE);
}

static void refused_legs(void **state)
{
	static const struct {
		struct router_leg leg;
		const char *words;
	} bad[] = {
		{ { .network_uid = "x", .mtu = 1500 }, "must be 1 to 32 of 0-9 and a-f" },
		{ { .network_uid = "c", .mtu = 100 }, "mtu 100: must be 576" },
		{ { .network_uid = "c", .mtu = 1500 }, "has no address on network c" },
		{ { .network_uid = "c", .subnet4 = "10.3.0.1/24", .ipv4 = "10.3.0.1", .mtu = 1500 },
		  "host bits zero" },
		{ { .network_uid = "c", .subnet4 = "10.3.0.0/24", .ipv4 = "10.4.0.1", .mtu = 1500 },
		  "must be an address of 10.3.0.0/24" },
		{ { .network_uid = "c",
		    .subnet4 = "10.3.0.0/24",
		    .ipv4 = "10.3.0.255",
		    .mtu = 1500 },
		  "must be an address of" },
		{ { .network_uid = "c", .subnet4 = "fd03::/64", .ipv4 = "fd03::1", .mtu = 1500 },
		  "must be one, host bits zero" },
		{ { .network_uid = "c", .ipv6 = "fd03::1", .mtu = 1500 }, "has no such subnet" },
		{ { .network_uid = "c",
		    .subnet4 = "10.1.0.128/25",
		    .ipv4 = "10.1.0.129",
		    .mtu = 1500 },
		  "networks a1 and c have addresses in common" },
		{ { .network_uid = "a1",
		    .subnet4 = "10.3.0.0/24",
		    .ipv4 = "10.3.0.1",
		    .mtu = 1500 },
		  "networks a1 and a1" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct router_leg legs[2];
		struct router_setup setup = make_setup(legs);

		legs[1] = bad[i].leg;
		expect_refused(&setup, bad[i].words);
	}
}

static void refused_transits(void **state)
{
	static const char *const bad[] = { NULL,       "",           "100.64.0.1",
					   "10.0.0.2", "100.65.0.2", "fd00::2" };

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct router_leg legs[2];
		struct router_setup setup = make_setup(legs);

		setup.transit = bad[i];
		expect_refused(&setup, "must be an even address of 100.64.0.0/16");
		/* Without an uplink nobody asks for it. */
		setup.uplink = false;
		AUTO(free) struct router_plan *plan = plan_of(&setup);
		assert_int_equal(plan->own4.family, 0);
	}
}

static void refused_routes(void **state)
{
	static const struct {
		struct router_static route;
		const char *words;
	} bad[] = {
		{ { NULL, "10.1.0.9" }, "must be a subnet and an address" },
		{ { "10.9.0.0/24", "gate" }, "must be a subnet and an address" },
		{ { "10.9.0.0/24", "fd01::9" }, "of the same kind" },
		{ { "0.0.0.0/0", "10.1.0.9" }, "has that one already" },
		{ { "10.9.0.0/24", "10.3.0.9" }, "is on none of the router's networks" },
	};
	const struct router_static good = { "10.9.0.0/24", "10.2.0.9" };
	struct router_leg legs[2];
	struct router_setup setup = make_setup(legs);

	(void) state;
	setup.static_count = 1;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		setup.statics = &bad[i].route;
		expect_refused(&setup, bad[i].words);
	}
	setup.statics = &good;
	AUTO(free) struct router_plan *plan = plan_of(&setup);
	assert_int_equal(plan->statics[0].leg, 1);
	setup.static_count = ROUTER_ITEMS_MAX + 1;
	expect_refused(&setup, "a router may have 256");
}

static void refused_publics_and_doors(void **state)
{
	static const char *const addresses[] = { "127.0.0.1", "0.0.0.0",    "224.0.0.1", "fe80::1",
						 "::1",       "100.64.0.2", "x" };
	static const struct {
		struct router_door door;
		const char *words;
	} doors[] = {
		{ { .protocol = "icmp", .port = 1, .target_port = 1 }, "must be tcp or udp" },
		{ { .protocol = "tcp", .port = 0, .target_port = 1 }, "a port must be 1 to 65535" },
		{ { .protocol = "tcp", .port = 1, .target_port = 0 }, "a port must be 1 to 65535" },
		{ { .address = "192.0.2.9", .protocol = "tcp", .port = 1, .target_port = 1 },
		  "must be a floating address of the router" },
		{ { .protocol = "tcp", .port = 1, .target_port = 1, .target4 = "fd01::5" },
		  "must be an IPv4 address" },
	};
	const struct router_public twice[] = { { "192.0.2.1", NULL }, { "192.0.2.1", NULL } };
	const struct router_door same[] = {
		{ .protocol = "tcp", .port = 1, .target_port = 1 },
		{ .protocol = "tcp", .port = 1, .target_port = 2 },
	};
	struct router_leg legs[2];
	struct router_setup setup = make_setup(legs);

	(void) state;
	setup.public_count = 1;
	for (size_t i = 0; i < ARRAY_COUNT(addresses); i++) {
		setup.publics = &(struct router_public){ .address = addresses[i] };
		expect_refused(&setup, "must be one that others send packets to");
	}
	setup.publics = &(struct router_public){ .address = "192.0.2.1", .target = "fd01::5" };
	expect_refused(&setup, "must be an IPv4 address");
	setup.publics = twice;
	setup.public_count = 2;
	expect_refused(&setup, "is there twice");
	setup.uplink = false;
	expect_refused(&setup, "without an uplink has no floating addresses");
	setup = make_setup(legs);
	setup.door_count = 1;
	for (size_t i = 0; i < ARRAY_COUNT(doors); i++) {
		setup.doors = &doors[i].door;
		expect_refused(&setup, doors[i].words);
	}
	setup.doors = same;
	setup.door_count = 2;
	expect_refused(&setup, "port 1/tcp: is forwarded twice");
	setup.uplink = false;
	expect_refused(&setup, "without an uplink forwards no ports");
}

static void expect_has(const char *text, const char *words)
{
	if (!strstr(text, words))
		fail_msg("\"%s\" is not in\n%s", words, text);
}

static void rules(void **state)
{
	static const struct router_public publics[] = { { "192.0.2.1", "10.1.0.5" },
							{ "192.0.2.2", "10.1.0.5" },
							{ "2001:db8::1", "fd01::5" },
							{ "192.0.2.3", NULL } };
	static const struct router_door doors[] = {
		{ .protocol = "tcp", .port = 8080, .target4 = "10.2.0.7", .target_port = 80 },
		{ .address = "192.0.2.3",
		  .protocol = "udp",
		  .port = 53,
		  .target4 = "10.2.0.8",
		  .target_port = 5353 },
	};
	struct router_leg legs[2];
	struct router_setup setup = make_setup(legs);

	(void) state;
	setup.publics = publics;
	setup.public_count = ARRAY_COUNT(publics);
	setup.doors = doors;
	setup.door_count = ARRAY_COUNT(doors);
	AUTO(free) struct router_plan *plan = plan_of(&setup);
	AUTO(free) char *text = router_text("brume", plan, true);
	AUTO(free) char *text4 = router_text("brume", plan, false);
	/* One transaction: what was there goes in it. */
	expect_has(text, "}\nflush table inet brume\ntable inet brume {");
	/* Doors before what stands behind whole addresses. */
	expect_has(text,
		   "dnat ip to ip daddr . meta l4proto . th dport map { 100.64.3.9 . tcp . 8080 : "
		   "10.2.0.7 . 80, 192.0.2.3 . udp . 53 : 10.2.0.8 . 5353 }\n"
		   "dnat ip to ip daddr map { 192.0.2.1 : 10.1.0.5, 192.0.2.2 : 10.1.0.5 }\n"
		   "dnat ip6 to ip6 daddr map { 2001:db8::1 : fd01::5 }\n");
	/* Who has two goes out with the first; the others with the router's own. */
	expect_has(text, "oifname \"uplink\" snat ip to ip saddr map { 10.1.0.5 : 192.0.2.1 }\n");
	expect_has(text, "oifname \"uplink\" masquerade\n");
	expect_has(text, "ct status dnat oifname \"na1\" ip saddr 10.1.0.0/24 masquerade\n");
	expect_has(text, "ct status dnat oifname \"na1\" ip6 saddr fd01::/64 masquerade\n");
	expect_has(text, "iifname \"uplink\" drop\n");
	assert_null(strstr(text4, "ip6"));
	/* Without nat nothing is hidden, and who is outside comes in. */
	plan->nat = false;
	AUTO(free) char *routed = router_text("brume", plan, true);
	assert_null(strstr(routed, "oifname \"uplink\" masquerade"));
	assert_null(strstr(routed, "iifname \"uplink\" drop"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ends_of_the_transit_link),  cmocka_unit_test(refused_legs),
		cmocka_unit_test(refused_transits),          cmocka_unit_test(refused_routes),
		cmocka_unit_test(refused_publics_and_doors), cmocka_unit_test(rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
