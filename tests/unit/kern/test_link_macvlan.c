#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "kern/link.h"
#include "kern/link_macvlan.h"
#include "kern/link_watch.h"
#include "kern/netlink.h"
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

struct heard {
	int lost;
	struct link last;
	bool gone;
};

static void hear(const struct link *link, bool gone, void *data)
{
	struct heard *heard = data;

	heard->lost += !link;
	if (link && strcmp(link->name, "lower") == 0) {
		heard->last = *link;
		heard->gone = gone;
	}
}

/* A bridge serves as the interface below. */
static void lives_on_another(void **state)
{
	AUTO(netlink_free) struct netlink *nl = NULL;
	AUTO(fd_close) int there = -1;
	struct link_macvlan macvlan = { .mode = MACVLAN_MODE_VEPA, .mac = mac, .netns_fd = -1 };
	struct link lower, link;
	uint32_t mode = 0;
	int r;

	(void) state;
	NEED_OWN_NETNS();
	assert_int_equal(netlink_open(NETLINK_ROUTE, &nl), 0);
	assert_int_equal(link_add_bridge(nl, "lower", mac), 0);
	assert_int_equal(link_find(nl, "lower", &lower), 0);
	macvlan.lower = lower.index;
	r = link_add_macvlan(nl, "m0", &macvlan);
	if (r == -EOPNOTSUPP) {
		print_message("skipped: this kernel has no macvlan\n");
		skip();
	}
	assert_int_equal(r, 0);
	assert_int_equal(link_add_macvlan(nl, "m0", &macvlan), -EEXIST);
	assert_int_equal(link_find(nl, "m0", &link), 0);
	assert_string_equal(link.kind, "macvlan");
	assert_int_equal(link.peer_index, lower.index);
	assert_memory_equal(link.mac, mac, sizeof(mac));
	assert_int_equal(link_read_macvlan(nl, "m0", &mode), 0);
	assert_int_equal(mode, MACVLAN_MODE_VEPA);
	assert_int_equal(link_read_macvlan(nl, "lower", &mode), -ENODEV);
	assert_int_equal(link_read_macvlan(nl, "none", &mode), -ENODEV);
	assert_int_equal(link_set(nl, link.index, &(struct link_change){ .name = "m1" }), 0);
	assert_int_equal(link_find(nl, "m1", &link), 0);
	macvlan.mtu = 9000;
	assert_int_equal(link_add_macvlan(nl, "m2", &macvlan), -EINVAL);
	macvlan.mtu = 1400;
	macvlan.mode = MACVLAN_MODE_PASSTHRU;
	assert_int_equal(link_add_macvlan(nl, "m2", &macvlan), -EINVAL);
	/* Born elsewhere, and gone with the one below. */
	macvlan.mode = MACVLAN_MODE_BRIDGE;
	there = open_foreign();
	macvlan.netns_fd = there;
	assert_int_equal(link_add_macvlan(nl, "m2", &macvlan), 0);
	assert_int_equal(link_find(nl, "m2", &link), -ENODEV);
	assert_int_equal(link_delete(nl, lower.index), 0);
	assert_int_equal(link_find(nl, "m1", &link), -ENODEV);
}

static void changes_are_heard(void **state)
{
	AUTO(netlink_free) struct netlink *nl = NULL;
	AUTO(fd_close) int fd = -1;
	struct heard heard = {};
	struct link lower;

	(void) state;
	NEED_OWN_NETNS();
	assert_int_equal(netlink_open(NETLINK_ROUTE, &nl), 0);
	fd = link_watch();
	assert_true(fd >= 0);
	link_watch_read(fd, hear, &heard);
	assert_int_equal(heard.last.index, 0);
	assert_int_equal(link_add_bridge(nl, "lower", mac), 0);
	assert_int_equal(link_find(nl, "lower", &lower), 0);
	assert_int_equal(
		link_set(nl, lower.index, &(struct link_change){ .mtu = 1300, .up = true }), 0);
	link_watch_read(fd, hear, &heard);
	assert_int_equal(heard.last.index, lower.index);
	assert_int_equal(heard.last.mtu, 1300);
	assert_true(heard.last.flags & IFF_UP);
	assert_false(heard.gone);
	assert_int_equal(link_delete(nl, lower.index), 0);
	link_watch_read(fd, hear, &heard);
	assert_true(heard.gone);
	assert_int_equal(heard.lost, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lives_on_another),
		cmocka_unit_test(changes_are_heard),
	};

	return cmocka_run_group_tests(tests, enter_own_netns, NULL);
}
