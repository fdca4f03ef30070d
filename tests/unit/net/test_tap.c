#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/strv.h"
#include "kern/link.h"
#include "kern/netlink.h"
#include "net/network.h"
#include "net/node.h"
#include "net/observe.h"
#include "net/tap.h"
#include "own_netns.h"

static const struct bridge_spec network = {
	.uid = "ab", .ipv4 = "10.90.0.0/24", .mtu = 1400, .dns_domain = "brume.internal"
};
static const struct port_spec port = { .network = &network,
				       .uid = "cd",
				       .name = "web",
				       .mac = "02:62:0a:5a:00:05",
				       .ipv4 = "10.90.0.5" };
static char folder[32];
static struct net *net;
static struct netlink *nl;

static int setup(void **state)
{
	AUTO(bridge_status_done) struct bridge_status status = {};
	struct net_options options = { .prefix = "tt", .run_dir = folder };
	struct error err = {};

	enter_own_netns(state);
	strcpy(folder, "/tmp/test-tap-XXXXXX");
	assert_non_null(mkdtemp(folder));
	/* A kernel without nftables or tun has nothing to test. */
	if (own_netns &&
	    (access("/dev/net/tun", R_OK | W_OK) < 0 || net_new(&options, &net, &err) < 0 ||
	     network_ensure(net, &network, &status, &err) < 0)) {
		print_message("skipped: %s\n", err.msg);
		own_netns = false;
	}
	return own_netns ? netlink_open(NETLINK_ROUTE, &nl) : 0;
}

static int teardown(void **state)
{
	(void) state;
	net_free(net);
	netlink_free(nl);
	file_remove_tree(AT_FDCWD, folder);
	return 0;
}

static void lives_as_long_as_its_descriptor(void **state)
{
	AUTO(net_observed_done) struct net_observed observed = {};
	struct port_counters counters;
	struct tap_facts facts;
	struct link link, bridge;
	struct error err = {};
	struct ifreq request;
	int fd = -1, size = 0;

	(void) state;
	NEED_OWN_NETNS();
	if (tap_open(net, &port, &fd, &facts, &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(facts.ipv4, "10.90.0.5/24");
	assert_string_equal(facts.ipv6, "");
	assert_int_equal(facts.mtu, 1400);
	assert_memory_equal(facts.mac, "\x02\x62\x0a\x5a\x00\x05", 6);
	assert_int_equal(link_find(nl, "ttvcd", &link), 0);
	assert_int_equal(link_find(nl, "tt-ab", &bridge), 0);
	assert_int_equal(link.master, bridge.index);
	assert_true(link.flags & IFF_UP);
	assert_int_equal(link.mtu, 1400);
	assert_string_equal(link.alias, "cd");
	/* The guest's address is the guest's alone. */
	assert_memory_not_equal(link.mac, facts.mac, 6);
	assert_int_equal(ioctl(fd, TUNGETIFF, &request), 0);
	assert_true(request.ifr_flags & IFF_VNET_HDR);
	assert_int_equal(ioctl(fd, TUNGETVNETHDRSZ, &size), 0);
	assert_int_equal(size, 12);
	assert_int_equal(port_read_counters(net, "cd", &counters), 0);
	assert_int_equal(net_observe(net, &observed, NULL), 0);
	assert_string_equal(observed.ports[0], "cd");
	close(fd);
	assert_int_equal(link_find(nl, "ttvcd", &link), -ENODEV);
}

static void is_repaired_and_named(void **state)
{
	struct tap_facts facts;
	struct link link, bridge;
	struct error err = {};
	char path[80];

	(void) state;
	NEED_OWN_NETNS();
	assert_int_equal(tap_attach(net, &port, &err), -ENODEV);
	AUTO(fd_close) int fd = -1;
	assert_int_equal(tap_open(net, &port, &fd, &facts, &err), 0);
	assert_int_equal(link_find(nl, "ttvcd", &link), 0);
	assert_int_equal(link_set(nl, link.index, &(struct link_change){ .down = true }), 0);
	assert_int_equal(tap_attach(net, &port, &err), 0);
	assert_int_equal(link_find(nl, "ttvcd", &link), 0);
	assert_int_equal(link_find(nl, "tt-ab", &bridge), 0);
	assert_true(link.flags & IFF_UP);
	assert_int_equal(link.master, bridge.index);
	snprintf(path, sizeof(path), "%s/networks/ab/hosts/cd", folder);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(port_detach(net, "ab", "cd", &err), 0);
	assert_int_equal(access(path, F_OK), -1);
}

static void an_older_one_goes_and_a_strangers_stays(void **state)
{
	struct tap_facts facts;
	struct link link;
	struct error err = {};
	int old = -1, fd = -1;

	(void) state;
	NEED_OWN_NETNS();
	assert_int_equal(tap_open(net, &port, &old, &facts, &err), 0);
	assert_int_equal(tap_open(net, &port, &fd, &facts, &err), 0);
	close(old);
	assert_int_equal(link_find(nl, "ttvcd", &link), 0);
	assert_int_equal(link_set(nl, link.index, &(struct link_change){ .alias = "ef" }), 0);
	assert_int_equal(tap_open(net, &port, &old, &facts, &err), -EEXIST);
	assert_non_null(strstr(err.msg, "does not belong to port cd"));
	assert_int_equal(link_set(nl, link.index, &(struct link_change){ .alias = "cd" }), 0);
	/* What nobody wants is taken away. */
	struct net_wanted wanted = { .networks = (char *[]){ (char *) "ab", NULL } };
	assert_int_equal(net_gc(net, &wanted, NULL, &err), 0);
	assert_int_equal(link_find(nl, "ttvcd", &link), -ENODEV);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lives_as_long_as_its_descriptor),
		cmocka_unit_test(is_repaired_and_named),
		cmocka_unit_test(an_older_one_goes_and_a_strangers_stays),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
