#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include "../own_netns.h"
#include "base/cleanup.h"
#include "kern/link.h"
#include "kern/netlink.h"
#include "kern/route_table.h"

/* Routes that somebody set, in a network namespace of the test's own. */

struct seen {
	struct route_line lines[16];
	size_t count;
};

static void take(const struct route_line *line, void *data)
{
	struct seen *seen = data;

	assert_true(seen->count < ARRAY_COUNT(seen->lines));
	seen->lines[seen->count++] = *line;
}

static struct seen list(struct netlink *nl, int family, int link_index)
{
	struct seen seen = {};

	assert_int_equal(route_line_list(nl, family, link_index, take, &seen), 0);
	return seen;
}

static struct route_ip ip4(const char *text, uint8_t prefix)
{
	struct route_ip ip = { .family = AF_INET, .prefix = prefix };

	assert_int_equal(inet_pton(AF_INET, text, ip.bytes), 1);
	return ip;
}

/* A bridge that is up, with an address. */
static int make_link(struct netlink *nl, const char *name, const char *address)
{
	const uint8_t mac[LINK_MAC_SIZE] = { 2, 1, 2, 3, 4, 5 };
	struct route_ip ip = ip4(address, 24);
	struct link link;

	assert_int_equal(link_add_bridge(nl, name, mac), 0);
	assert_int_equal(link_find(nl, name, &link), 0);
	assert_int_equal(link_set(nl, link.index, &(struct link_change){ .up = true }), 0);
	assert_true(route_add_address(nl, link.index, &ip) >= 0);
	return link.index;
}

static void come_and_go(void **state)
{
	AUTO(netlink_free) struct netlink *nl = NULL;
	struct route_line line = { .to = ip4("10.9.0.0", 24), .via = ip4("10.1.0.9", 32) };
	struct seen seen;
	int one, two;

	(void) state;
	NEED_OWN_NETNS();
	assert_int_equal(netlink_open(NETLINK_ROUTE, &nl), 0);
	one = make_link(nl, "one", "10.1.0.1");
	two = make_link(nl, "two", "10.2.0.1");
	/* What comes with addresses is the kernel's. */
	assert_int_equal(list(nl, AF_INET, 0).count, 0);
	line.link_index = one;
	assert_int_equal(route_line_add(nl, &line), 0);
	assert_int_equal(route_line_add(nl, &line), 0);
	seen = list(nl, AF_INET, one);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.lines[0].link_index, one);
	assert_memory_equal(seen.lines[0].to.bytes, line.to.bytes, 4);
	assert_int_equal(seen.lines[0].to.prefix, 24);
	assert_memory_equal(seen.lines[0].via.bytes, line.via.bytes, 4);
	assert_false(seen.lines[0].marked);
	assert_int_equal(list(nl, AF_INET, two).count, 0);
	assert_int_equal(list(nl, AF_INET6, 0).count, 0);
	/* Another way to the same subnet takes its place. */
	line.via = (struct route_ip){};
	line.link_index = two;
	assert_int_equal(route_line_add(nl, &line), 0);
	seen = list(nl, AF_INET, 0);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.lines[0].link_index, two);
	assert_int_equal(seen.lines[0].via.family, 0);
	assert_int_equal(route_line_delete(nl, &line), 0);
	assert_int_equal(route_line_delete(nl, &line), 0);
	assert_int_equal(list(nl, AF_INET, 0).count, 0);
	/* One that leads nowhere is the kernel's to refuse. */
	line.via = ip4("192.0.2.1", 32);
	assert_true(route_line_add(nl, &line) < 0);
}

/* The default route is a subnet as others are; a marked line stands beside one that is not. */
static void defaults_and_marks(void **state)
{
	AUTO(netlink_free) struct netlink *nl = NULL;
	struct route_line line = { .to = { .family = AF_INET }, .via = ip4("10.3.0.9", 32) };
	struct seen seen;

	(void) state;
	NEED_OWN_NETNS();
	assert_int_equal(netlink_open(NETLINK_ROUTE, &nl), 0);
	line.link_index = make_link(nl, "three", "10.3.0.1");
	assert_int_equal(route_line_add(nl, &line), 0);
	line.marked = true;
	assert_int_equal(route_line_add(nl, &line), 0);
	seen = list(nl, AF_INET, line.link_index);
	assert_int_equal(seen.count, 2);
	assert_int_equal(seen.lines[0].to.prefix, 0);
	assert_true(seen.lines[0].marked != seen.lines[1].marked);
	assert_int_equal(route_line_delete(nl, &line), 0);
	seen = list(nl, AF_INET, line.link_index);
	assert_int_equal(seen.count, 1);
	assert_false(seen.lines[0].marked);
}

static void answering_for_others(void **state)
{
	AUTO(netlink_free) struct netlink *nl = NULL;
	struct route_ip ip = ip4("10.4.0.77", 32);
	int index;

	(void) state;
	NEED_OWN_NETNS();
	assert_int_equal(netlink_open(NETLINK_ROUTE, &nl), 0);
	index = make_link(nl, "four", "10.4.0.1");
	for (int i = 0; i < 2; i++)
		assert_int_equal(route_set_proxy(nl, index, &ip, true), 0);
	/* What is not there any more is fine. */
	for (int i = 0; i < 2; i++)
		assert_int_equal(route_set_proxy(nl, index, &ip, false), 0);
	assert_true(route_set_proxy(nl, 99999, &ip, true) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(come_and_go),
		cmocka_unit_test(defaults_and_marks),
		cmocka_unit_test(answering_for_others),
	};

	return cmocka_run_group_tests(tests, enter_own_netns, NULL);
}
