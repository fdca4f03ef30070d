#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <net/if.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "kern/netlink.h"
#include "kern/route_mark.h"
#include "kern/route_table.h"
#include "kern/rtnl_watch.h"
#include "net/address.h"
#include "net/advertise.h"
#include "net/network.h"
#include "net/node.h"
#include "net/observe.h"
#include "own_netns.h"

#define BOTH "10.78.0.0/24 fd78::/64 "

struct world {
	char *folder;
	struct netlink *nl;
	struct net *net;
	bool ipv6;
};

static void open_net(struct world *world)
{
	struct net_options options = { .prefix = "t", .run_dir = world->folder };
	struct error err = {};

	net_free(world->net);
	if (net_new(&options, &world->net, &err) < 0)
		fail_msg("%s", err.msg);
}

static void open_world(struct world *world)
{
	*world = (struct world){ .folder = mem_strdup("/tmp/brume-test-adv-XXXXXX") };
	assert_non_null(mkdtemp(world->folder));
	assert_int_equal(netlink_open(NETLINK_ROUTE, &world->nl), 0);
	world->ipv6 = access("/proc/sys/net/ipv6/conf", F_OK) == 0;
	open_net(world);
}

static void close_world(struct world *world)
{
	assert_int_equal(net_destroy(world->net, NULL), 0);
	net_free(world->net);
	netlink_free(world->nl);
	assert_int_equal(file_remove_tree(AT_FDCWD, world->folder), 0);
	free(world->folder);
}

static struct bridge_spec network(const struct world *world, const char *uid, bool advertise)
{
	return (struct bridge_spec){ .uid = uid,
				     .ipv4 = "10.78.0.0/24",
				     .ipv6 = world->ipv6 ? "fd78::/64" : NULL,
				     .advertise = advertise };
}

static void ensure(struct world *world, const struct bridge_spec *spec)
{
	AUTO(bridge_status_done) struct bridge_status status = {};
	struct error err = {};

	if (network_ensure(world->net, spec, &status, &err) < 0)
		fail_msg("%s", err.msg);
}

static void put_anchor(const struct route_ip *to, void *data)
{
	char text[ADDRESS_TEXT_SIZE];

	strbuf_printf(data, "%s/%u ", address_text(to, text), to->prefix);
}

static void put_marked(int link_index, const struct route_ip *ip, void *data)
{
	(void) link_index;
	if (ip->metric == ROUTE_MARK_METRIC) {
		struct route_ip subnet = address_subnet(ip);

		put_anchor(&subnet, data);
	}
}

/* The anchors, or the subnets of addresses that have the mark. */
static void expect(struct world *world, bool anchors, const char *both)
{
	AUTO(strbuf_done) struct strbuf found = {};
	AUTO(free) char *wanted = mem_strdup(both);
	char *space = strchr(wanted, ' ');

	if (!world->ipv6 && space)
		space[1] = '\0';
	if (anchors) {
		assert_int_equal(route_mark_list(world->nl, AF_INET, put_anchor, &found), 0);
		assert_int_equal(route_mark_list(world->nl, AF_INET6, put_anchor, &found), 0);
	} else {
		assert_int_equal(route_list_addresses(world->nl, 0, put_marked, &found), 0);
	}
	assert_string_equal(strbuf_str(&found), wanted);
}

static void expect_both(struct world *world, const char *wanted)
{
	expect(world, true, wanted);
	expect(world, false, wanted);
}

static struct route_ip subnet(const char *text)
{
	struct route_ip ret;

	assert_int_equal(address_parse_subnet(text, &ret), 0);
	return ret;
}

static void announces_and_withdraws(void **state)
{
	struct world world;
	struct bridge_spec told, quiet, isolated;

	(void) state;
	NEED_OWN_NETNS();
	open_world(&world);
	told = network(&world, "a1", true);
	quiet = network(&world, "a1", false);
	isolated = network(&world, "a2", false);
	isolated.isolated = true;
	ensure(&world, &quiet);
	expect_both(&world, "");
	ensure(&world, &told);
	ensure(&world, &told);
	expect_both(&world, BOTH);
	/* Another one may be alike. */
	ensure(&world, &isolated);
	assert_int_equal(network_remove(world.net, "a2", NULL), 0);
	expect_both(&world, BOTH);
	ensure(&world, &quiet);
	expect_both(&world, "");
	ensure(&world, &told);
	assert_int_equal(network_remove(world.net, "a1", NULL), 0);
	expect_both(&world, "");
	close_world(&world);
}

static void a_new_agent_finds_what_is_there(void **state)
{
	struct world world;
	struct bridge_spec told, quiet, isolated;

	(void) state;
	NEED_OWN_NETNS();
	open_world(&world);
	told = network(&world, "a1", true);
	quiet = network(&world, "a1", false);
	isolated = network(&world, "a2", false);
	isolated.isolated = true;
	ensure(&world, &told);
	open_net(&world);
	ensure(&world, &isolated);
	expect_both(&world, BOTH);
	assert_int_equal(network_remove(world.net, "a1", NULL), 0);
	expect_both(&world, "");
	ensure(&world, &told);
	open_net(&world);
	ensure(&world, &quiet);
	expect_both(&world, "");
	assert_int_equal(network_remove(world.net, "a1", NULL), 0);
	assert_int_equal(network_remove(world.net, "a2", NULL), 0);
	close_world(&world);
}

static void what_is_nobodys_goes(void **state)
{
	char *const networks[] = { (char *) "a1", NULL };
	struct route_ip stray = subnet("10.79.0.0/24");
	struct world world;
	struct bridge_spec told;

	(void) state;
	NEED_OWN_NETNS();
	open_world(&world);
	told = network(&world, "a1", true);
	ensure(&world, &told);
	assert_int_equal(route_mark_add(world.nl, &stray), 1);
	assert_int_equal(route_mark_add(world.nl, &stray), 0);
	/* Before the network is made again: its bridge is there. */
	open_net(&world);
	assert_int_equal(
		net_gc(world.net, &(struct net_wanted){ .networks = networks }, NULL, NULL), 0);
	expect(&world, true, BOTH);
	assert_int_equal(net_gc(world.net, &(struct net_wanted){}, NULL, NULL), 0);
	expect_both(&world, "");
	ensure(&world, &told);
	assert_int_equal(route_mark_add(world.nl, &stray), 1);
	assert_int_equal(net_destroy(world.net, NULL), 0);
	expect_both(&world, "");
	close_world(&world);
}

static void all_of_many_go(void **state)
{
	struct world world;

	(void) state;
	NEED_OWN_NETNS();
	open_world(&world);
	for (unsigned int i = 0; i < 600; i++) {
		struct route_ip to = { .family = AF_INET,
				       .prefix = 32,
				       .bytes = { 10, 81, (uint8_t) (i >> 8), (uint8_t) i } };

		assert_int_equal(route_mark_add(world.nl, &to), 1);
	}
	assert_int_equal(net_destroy(world.net, NULL), 0);
	expect(&world, true, "");
	close_world(&world);
}

static bool is_readable(int fd)
{
	struct pollfd watch = { .fd = fd, .events = POLLIN };

	return poll(&watch, 1, 0) == 1;
}

static void what_others_take_is_put_back(void **state)
{
	struct route_ip four = subnet("10.78.0.0/24"), away = subnet("10.80.0.0/24");
	struct route_line foreign = { .to = away };
	struct world world;
	struct bridge_spec told;
	bool damaged = true;

	(void) state;
	NEED_OWN_NETNS();
	open_world(&world);
	told = network(&world, "a1", true);
	AUTO(fd_close) int fd = route_mark_watch();
	assert_true(fd >= 0);
	assert_false(rtnl_watch_read(fd));
	ensure(&world, &told);
	assert_true(is_readable(fd));
	assert_true(rtnl_watch_read(fd));
	assert_int_equal(advertise_repair(world.net, &damaged, NULL), 0);
	assert_false(damaged);
	/* Nothing was changed, so nobody hears of anything; nor of others' routes. */
	assert_false(is_readable(fd));
	foreign.link_index = (int) if_nametoindex("t-a1");
	assert_int_equal(route_line_add(world.nl, &foreign), 0);
	assert_false(is_readable(fd));
	assert_int_equal(route_mark_delete(world.nl, &foreign.to), 0);
	assert_int_equal(route_mark_delete(world.nl, &four), 0);
	assert_int_equal(route_mark_delete(world.nl, &four), 0);
	assert_true(rtnl_watch_read(fd));
	assert_int_equal(advertise_repair(world.net, &damaged, NULL), 0);
	assert_true(damaged);
	expect(&world, true, BOTH);
	close_world(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(announces_and_withdraws),
		cmocka_unit_test(a_new_agent_finds_what_is_there),
		cmocka_unit_test(what_is_nobodys_goes),
		cmocka_unit_test(all_of_many_go),
		cmocka_unit_test(what_others_take_is_put_back),
	};

	return cmocka_run_group_tests(tests, enter_own_netns, NULL);
}
