#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/rtnetlink.h>

#include "base/cleanup.h"
#include "kern/link.h"
#include "kern/netlink.h"
#include "kern/route.h"
#include "own_netns.h"

static const uint8_t mac[LINK_MAC_SIZE] = { 2, 0, 0, 0, 0, 1 };

static int open_foreign(void)
{
	int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), there;

	assert_int_equal(unshare(CLONE_NEWNET), 0);
	there = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_int_equal(setns(here, CLONE_NEWNET), 0);
	close(here);
	return there;
}

static int collect(const struct link *link, void *data)
{
	assert_string_equal(link->kind, "bridge");
	++*(int *) data;
	return 0;
}

static void bridge_lives_and_dies(void **state)
{
	AUTO(netlink_free) struct netlink *nl = NULL;
	struct link link;
	int count = 0;

	(void) state;
	NEED_OWN_NETNS();
	assert_int_equal(netlink_open(NETLINK_ROUTE, &nl), 0);
	assert_int_equal(link_find(nl, "br0", &link), -ENODEV);
	assert_int_equal(link_settle(nl, "br0"), -ENODEV);
	assert_int_equal(link_add_bridge(nl, "br0", mac), 0);
	assert_int_equal(link_add_bridge(nl, "br0", mac), -EEXIST);
	assert_int_equal(link_find(nl, "br0", &link), 0);
	assert_string_equal(link.kind, "bridge");
	assert_memory_equal(link.mac, mac, sizeof(mac));
	assert_int_equal(link.flags & IFF_UP, 0);
	assert_int_equal(link_set(nl, link.index,
				  &(struct link_change){ .alias = "abc", .mtu = 1400, .up = true }),
			 0);
	assert_int_equal(link_sysctl(AF_INET, "br0", "route_localnet", "1"), 0);
	assert_int_equal(link_sysctl(AF_INET, "br0", "nonsense", "1"), -ENOENT);
	assert_int_equal(link_find(nl, "br0", &link), 0);
	assert_string_equal(link.alias, "abc");
	assert_int_equal(link.mtu, 1400);
	assert_int_equal(link.flags & IFF_UP, IFF_UP);
	assert_int_equal(link_list(nl, "bridge", collect, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(link_delete(nl, link.index), 0);
	assert_int_equal(link_delete(nl, link.index), -ENODEV);
}

static void veth_spans_namespaces(void **state)
{
	AUTO(netlink_free) struct netlink *nl = NULL;
	struct link bridge, veth;
	int nsid = 7;

	(void) state;
	NEED_OWN_NETNS();
	AUTO(fd_close) int foreign = open_foreign();
	AUTO(fd_close) int other = open_foreign();

	assert_int_equal(netlink_open(NETLINK_ROUTE, &nl), 0);
	assert_int_equal(link_nsid(nl, foreign, &nsid), 0);
	assert_int_equal(nsid, -1);
	assert_int_equal(link_add_bridge(nl, "br0", mac), 0);
	assert_int_equal(link_find(nl, "br0", &bridge), 0);
	assert_int_equal(link_add_veth(nl, &(struct link_veth){ .name = "v0",
								.master = bridge.index,
								.mtu = 1400,
								.peer_name = "eth0",
								.peer_netns_fd = foreign,
								.peer_mac = mac }),
			 0);
	assert_int_equal(link_find(nl, "v0", &veth), 0);
	assert_int_equal(veth.master, bridge.index);
	assert_int_equal(veth.mtu, 1400);
	assert_int_equal(link_nsid(nl, foreign, &nsid), 0);
	assert_int_equal(veth.peer_nsid, nsid);
	assert_true(nsid >= 0);
	assert_int_equal(link_nsid(nl, other, &nsid), 0);
	assert_int_not_equal(veth.peer_nsid, nsid);
	assert_int_equal(link_set(nl, veth.index,
				  &(struct link_change){
					  .hairpin = true, .no_link_local = true, .up = true }),
			 0);
	/* The kernel explains itself. */
	assert_true(link_set(nl, veth.index, &(struct link_change){ .mtu = 4000000000U }) < 0);
	assert_string_not_equal(netlink_detail(nl), "");
	assert_int_equal(link_delete(nl, veth.index), 0);
	assert_int_equal(link_delete(nl, bridge.index), 0);
}

static int stop_at_first(const struct link *link, void *data)
{
	(void) link;
	++*(int *) data;
	return -ECANCELED;
}

static void early_end_leaves_the_socket_usable(void **state)
{
	AUTO(netlink_free) struct netlink *nl = NULL;
	struct link link;
	int calls = 0;

	(void) state;
	NEED_OWN_NETNS();
	assert_int_equal(netlink_open(NETLINK_ROUTE, &nl), 0);
	assert_int_equal(link_add_bridge(nl, "br0", mac), 0);
	assert_int_equal(link_add_bridge(nl, "br1", mac), 0);
	assert_int_equal(link_list(nl, "bridge", stop_at_first, &calls), -ECANCELED);
	assert_int_equal(calls, 1);
	assert_int_equal(link_find(nl, "br1", &link), 0);
	assert_int_equal(link_delete(nl, link.index), 0);
	assert_int_equal(link_find(nl, "br0", &link), 0);
	assert_int_equal(link_delete(nl, link.index), 0);
}

struct addresses {
	int count;
	struct route_ip last;
};

static void take_address(int index, const struct route_ip *ip, void *data)
{
	struct addresses *addresses = data;

	assert_true(index > 0);
	addresses->count++;
	addresses->last = *ip;
}

static void addresses_and_routes(void **state)
{
	AUTO(netlink_free) struct netlink *nl = NULL;
	struct route_ip ip4 = { .family = AF_INET, .prefix = 24, .bytes = { 10, 1, 2, 3 } };
	struct route_ip gateway4 = { .family = AF_INET, .prefix = 24, .bytes = { 10, 1, 2, 1 } };
	struct route_ip ip6 = { .family = AF_INET6, .prefix = 64, .bytes = { 0xfd, [15] = 3 } };
	struct route_ip gateway6 = { .family = AF_INET6,
				     .prefix = 64,
				     .bytes = { 0xfd, [15] = 1 } };
	struct addresses seen = {};
	struct link link;

	(void) state;
	NEED_OWN_NETNS();
	AUTO(fd_close) int watch = route_watch();

	assert_true(watch >= 0);
	assert_int_equal(netlink_open(NETLINK_ROUTE, &nl), 0);
	assert_int_equal(link_add_bridge(nl, "br0", mac), 0);
	assert_int_equal(link_find(nl, "br0", &link), 0);
	assert_int_equal(link_set(nl, link.index, &(struct link_change){ .up = true }), 0);
	assert_int_equal(route_add_address(nl, link.index, &ip6), 1);
	assert_int_equal(route_add_address(nl, link.index, &ip4), 1);
	assert_int_equal(route_add_address(nl, link.index, &ip4), 0);
	assert_int_equal(route_await(watch, link.index, &ip6), 0);
	assert_int_equal(route_set_default(nl, link.index, &gateway4), 0);
	assert_int_equal(route_set_default(nl, link.index, &gateway4), 0);
	assert_int_equal(route_set_default(nl, link.index, &gateway6), 0);
	assert_int_equal(route_set_default(nl, link.index, &gateway6), 0);
	assert_int_equal(route_list_addresses(nl, link.index, take_address, &seen), 0);
	assert_int_equal(seen.count, 2);
	assert_int_equal(seen.last.prefix, seen.last.family == AF_INET ? 24 : 64);
	assert_int_equal(route_delete_address(nl, link.index, &ip4), 0);
	assert_int_equal(route_delete_address(nl, link.index, &ip4), -EADDRNOTAVAIL);
	seen.count = 0;
	assert_int_equal(route_list_addresses(nl, 0, take_address, &seen), 0);
	assert_int_equal(seen.count, 1);
	assert_memory_equal(seen.last.bytes, ip6.bytes, 16);
	assert_int_equal(link_delete(nl, link.index), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bridge_lives_and_dies),
		cmocka_unit_test(veth_spans_namespaces),
		cmocka_unit_test(early_end_leaves_the_socket_usable),
		cmocka_unit_test(addresses_and_routes),
	};

	return cmocka_run_group_tests(tests, enter_own_netns, NULL);
}
