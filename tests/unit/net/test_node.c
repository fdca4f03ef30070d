#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <net/if.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strv.h"
#include "kern/nft.h"
#include "net/network.h"
#include "net/node.h"
#include "net/observe.h"
#include "net/port.h"
#include "net/publish.h"
#include "own_netns.h"

enum { THREADS = 8, ROUNDS = 50 };

#define NEED_DNSMASQ()                                                                             \
	do {                                                                                       \
		if (access("/usr/sbin/dnsmasq", X_OK) < 0) {                                       \
			print_message("skipped: dnsmasq is not installed\n");                      \
			skip();                                                                    \
		}                                                                                  \
	} while (0)

static struct net *open_net(const char *folder)
{
	struct net_options options = { .prefix = "t", .run_dir = folder };
	struct error err = {};
	struct net *net = NULL;

	if (net_new(&options, &net, &err) < 0)
		fail_msg("%s", err.msg);
	return net;
}

static void folder_done(char *folder)
{
	(void) file_remove_tree(AT_FDCWD, folder);
	free(folder);
}
DEFINE_AUTO(char *, folder_done)

static char *make_folder(void)
{
	char *folder = mem_strdup("/tmp/brume-test-net-XXXXXX");

	assert_non_null(mkdtemp(folder));
	return folder;
}

static void refuses_bad_options(void **state)
{
	static const struct net_options bad[] = {
		{ "", "/tmp" }, { NULL, "/tmp" }, { "toolongname", "/tmp" }, { "a-b", "/tmp" },
		{ "a", "tmp" }, { "a", NULL },    { "a", "/tmp/x\ny" },      { "a", "/tmp/a b" }
	};
	struct net *net = NULL;
	struct error err;

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		err = (struct error){};
		assert_int_equal(net_new(&bad[i], &net, &err), -22);
		assert_string_not_equal(err.msg, "");
		assert_null(net);
	}
	net_free(NULL);
}

static size_t count_elements(struct net *net)
{
	AUTO(net_observed_done) struct net_observed observed = {};

	assert_int_equal(net_observe(net, &observed, NULL), 0);
	return observed.elements;
}

static void remembers_after_a_crash(void **state)
{
	AUTO(folder_done) char *folder = make_folder();
	AUTO(net_observed_done) struct net_observed observed = {};
	struct publish_spec spec = { .host_port = 8080, .port = 80, .protocol = "tcp" };
	struct net *net;
	bool damaged = true;

	(void) state;
	NEED_OWN_NETNS();
	net = open_net(folder);
	assert_int_equal(publish_ensure(net, "ab", "10.0.0.5", "fd00::5", &spec, 1, NULL), 0);
	assert_int_equal(publish_ensure(net, "cd", "10.0.0.6", NULL, &spec, 1, NULL), -EADDRINUSE);
	assert_int_equal(count_elements(net), 2);
	net_free(net);

	net = open_net(folder);
	assert_int_equal(net_observe(net, &observed, NULL), 0);
	assert_int_equal(strv_count(observed.published), 1);
	assert_string_equal(observed.published[0], "ab");
	assert_int_equal(publish_ensure(net, "cd", "10.0.0.6", NULL, &spec, 1, NULL), -EADDRINUSE);
	assert_int_equal(net_repair(net, &damaged, NULL), 0);
	assert_false(damaged);
	assert_int_equal(publish_remove(net, "ab", NULL), 0);
	assert_int_equal(publish_remove(net, "ab", NULL), 0);
	assert_int_equal(count_elements(net), 0);
	assert_int_equal(net_destroy(net, NULL), 0);
	net_free(net);
}

static void survives_a_flush(void **state)
{
	AUTO(folder_done) char *folder = make_folder();
	struct publish_spec specs[3] = {
		{ .host_port = 1, .port = 80, .protocol = "tcp" },
		{ .host_port = 2, .port = 80, .protocol = "udp" },
		{ .host_ip = "127.0.0.1", .host_port = 3, .port = 80, .protocol = "tcp" }
	};
	static const char *const damages[] = { "flush ruleset", "delete table inet t",
					       "flush table inet t", "flush map inet t publish4",
					       "delete map inet t publish4" };
	struct net *net;
	bool damaged;

	(void) state;
	NEED_OWN_NETNS();
	net = open_net(folder);
	assert_int_equal(publish_ensure(net, "ab", "10.0.0.5", NULL, specs, 3, NULL), 0);
	for (size_t i = 0; i < ARRAY_COUNT(damages); i++) {
		bool expected = nft_run(damages[i], NULL) == 0; /* a map in use stays */

		assert_int_equal(net_repair(net, &damaged, NULL), 0);
		assert_int_equal(damaged, expected);
		assert_int_equal(net_repair(net, &damaged, NULL), 0);
		assert_false(damaged);
	}
	/* Changes of others' tables are no damage. */
	assert_int_equal(nft_run("add table inet stranger", NULL), 0);
	assert_int_equal(net_repair(net, &damaged, NULL), 0);
	assert_false(damaged);
	assert_int_equal(nft_run("delete table inet stranger", NULL), 0);
	/* A call that comes first repairs too. */
	assert_int_equal(nft_run("flush ruleset", NULL), 0);
	assert_int_equal(publish_ensure(net, "ab", "10.0.0.5", NULL, specs, 2, NULL), 0);
	assert_int_equal(net_repair(net, &damaged, NULL), 0);
	assert_false(damaged);
	net_free(net);
	net = open_net(folder);
	assert_int_equal(count_elements(net), 2);
	assert_int_equal(net_destroy(net, NULL), 0);
	net_free(net);
}

struct worker {
	struct net *net;
	unsigned int number;
	int failures;
};

static void *publish_much(void *data)
{
	struct worker *worker = data;
	char uid[16];

	snprintf(uid, sizeof(uid), "%x", worker->number);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		struct publish_spec spec = { .host_port = (uint16_t) (20000 +
								      worker->number * ROUNDS + i),
					     .port = 80,
					     .protocol = i % 2 ? "tcp" : "udp" };

		if (publish_ensure(worker->net, uid, "10.0.0.5", "fd00::5", &spec, 1, NULL) < 0)
			worker->failures++;
	}
	return NULL;
}

static void many_threads_at_once(void **state)
{
	AUTO(folder_done) char *folder = make_folder();
	struct worker workers[THREADS];
	pthread_t threads[THREADS];
	struct net *net;

	(void) state;
	NEED_OWN_NETNS();
	net = open_net(folder);
	for (unsigned int i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){ .net = net, .number = i };
		assert_int_equal(pthread_create(&threads[i], NULL, publish_much, &workers[i]), 0);
	}
	for (unsigned int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(workers[i].failures, 0);
	}
	assert_int_equal(count_elements(net), 2 * THREADS);
	assert_int_equal(net_destroy(net, NULL), 0);
	net_free(net);
}

static void removes_everything_of_a_network(void **state)
{
	AUTO(folder_done) char *folder = make_folder();
	AUTO(bridge_status_done) struct bridge_status status = {};
	AUTO(net_observed_done) struct net_observed observed = {};
	struct bridge_spec spec = { .uid = "ab", .ipv4 = "10.77.0.0/24", .nat = true };
	struct error err = {};
	struct net *net;

	(void) state;
	NEED_OWN_NETNS();
	NEED_DNSMASQ();
	net = open_net(folder);
	if (network_ensure(net, &spec, &status, &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(status.bridge, "t-ab");
	assert_true(status.dns.restart);
	assert_int_equal(strv_count(status.dns.argv), 3);
	assert_int_equal(net_gc(net, &(struct net_wanted){}, NULL, NULL), 0);
	assert_int_equal(net_observe(net, &observed, NULL), 0);
	assert_int_equal(strv_count(observed.networks), 0);
	assert_int_equal(observed.elements, 0);
	assert_int_equal(network_remove(net, "ab", NULL), 0);
	assert_int_equal(net_destroy(net, NULL), 0);
	net_free(net);
}

static bool has_name(const char *folder, const char *network, const char *port)
{
	AUTO(free) char *path = mem_printf("%s/networks/%s/hosts/%s", folder, network, port);

	return access(path, F_OK) == 0;
}

static bool there(const char *name)
{
	return if_nametoindex(name) != 0;
}

static void expect_sysctl(const char *path, char value)
{
	AUTO(free) char *text = NULL;

	assert_int_equal(file_read(AT_FDCWD, path, 64, &text, NULL), 0);
	if (text[0] != value)
		fail_msg("%s is %s", path, text);
}

static void isolated_networks_may_be_alike(void **state)
{
	static const char *const uids[] = { "a1", "a2", "a3" };
	AUTO(folder_done) char *folder = make_folder();
	struct error err = {};
	struct net *net;

	(void) state;
	NEED_OWN_NETNS();
	NEED_DNSMASQ();
	net = open_net(folder);
	for (size_t i = 0; i < ARRAY_COUNT(uids); i++) {
		AUTO(bridge_status_done) struct bridge_status status = {};
		struct bridge_spec spec = { .uid = uids[i],
					    .ipv4 = "10.78.0.0/24",
					    .ipv6 = "fd78::/64",
					    .isolated = i < 2 };

		if (network_ensure(net, &spec, &status, &err) < 0)
			fail_msg("%s: %s", uids[i], err.msg);
		assert_true((status.dns.argv != NULL) == (i == 2));
	}
	expect_sysctl("/proc/sys/net/ipv4/conf/t-a1/forwarding", '0');
	expect_sysctl("/proc/sys/net/ipv4/conf/t-a1/arp_ignore", '8');
	expect_sysctl("/proc/sys/net/ipv4/conf/t-a3/forwarding", '1');
	if (access("/proc/sys/net/ipv6/conf/t-a1", F_OK) == 0)
		expect_sysctl("/proc/sys/net/ipv6/conf/t-a1/disable_ipv6", '1');
	for (size_t i = 0; i < ARRAY_COUNT(uids); i++)
		assert_int_equal(network_remove(net, uids[i], NULL), 0);
	assert_int_equal(count_elements(net), 0);
	assert_int_equal(net_destroy(net, NULL), 0);
	net_free(net);
}

static void ports_come_and_go(void **state)
{
	static const struct bridge_spec one = { .uid = "a1", .ipv4 = "10.78.0.0/24" };
	static const struct bridge_spec two = { .uid = "a2", .ipv4 = "10.79.0.0/24" };
	struct port_spec first = {
		.network = &one, .uid = "c1", .name = "web", .ipv4 = "10.78.0.5", .leads_out = true
	};
	struct port_spec second = { .network = &two,
				    .uid = "c2",
				    .interface = "eth1",
				    .name = "web",
				    .ipv4 = "10.79.0.5" };
	AUTO(bridge_status_done) struct bridge_status status1 = {};
	AUTO(bridge_status_done) struct bridge_status status2 = {};
	AUTO(net_observed_done) struct net_observed before = {};
	AUTO(folder_done) char *folder = make_folder();
	struct net_gc_report report = {};
	struct error err = {};
	struct net *net;

	(void) state;
	NEED_OWN_NETNS();
	NEED_DNSMASQ();
	net = open_net(folder);
	AUTO(fd_close) int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	AUTO(fd_close) int inside = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_int_equal(setns(home, CLONE_NEWNET), 0);
	if (network_ensure(net, &one, &status1, &err) < 0 ||
	    network_ensure(net, &two, &status2, &err) < 0 ||
	    port_attach(net, &first, inside, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(net_observe(net, &before, NULL), 0);
	assert_string_equal(before.ports[0], "c1");
	assert_string_equal(before.names[0], "c1");
	if (port_attach(net, &second, inside, &err) < 0)
		fail_msg("%s", err.msg);
	assert_true(there("tvc1") && there("tvc2") && has_name(folder, "a2", "c2"));
	assert_int_equal(setns(inside, CLONE_NEWNET), 0);
	assert_true(there("eth0") && there("eth1"));
	assert_int_equal(setns(home, CLONE_NEWNET), 0);
	/* A list that is older than the second port does not take it away. */
	struct net_wanted wanted = { .networks = (char *[]){ (char *) "a1", (char *) "a2", NULL },
				     .before = &before };
	assert_int_equal(net_gc(net, &wanted, &report, NULL), 0);
	assert_int_equal(report.ports, 1);
	assert_int_equal(report.names, 1);
	assert_false(there("tvc1"));
	assert_true(there("tvc2") && has_name(folder, "a2", "c2"));
	/* Of what goes on one port goes. */
	assert_int_equal(port_remove(net, "a2", "../x", &err), -EINVAL);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(port_remove(net, "a2", "c2", &err), 0);
		assert_false(there("tvc2") || has_name(folder, "a2", "c2"));
	}
	assert_int_equal(net_destroy(net, NULL), 0);
	net_free(net);
}

struct attacher {
	struct net *net;
	unsigned int number;
	int netns_fd;
	ino_t home; /* the namespace that its thread must be in afterwards */
	int failures;
};

static ino_t namespace_of_thread(void)
{
	struct stat st = {};

	(void) stat("/proc/thread-self/ns/net", &st);
	return st.st_ino;
}

static const struct bridge_spec crowd = {
	.uid = "ab", .ipv4 = "10.77.0.0/24", .ipv6 = "fd77::/64", .nat = true
};

static void *attach_much(void *data)
{
	struct attacher *attacher = data;
	char uid[16], ipv4[32], ipv6[32];
	struct port_spec port = { .network = &crowd,
				  .uid = uid,
				  .leads_out = true,
				  .name = uid,
				  .ipv4 = ipv4,
				  .ipv6 = ipv6 };

	snprintf(uid, sizeof(uid), "%x", attacher->number + 1);
	for (unsigned int i = 0; i < 10; i++) {
		/* New addresses each time: the old ones must go. */
		snprintf(ipv4, sizeof(ipv4), "10.77.0.%u", 10 + attacher->number * 10 + i);
		snprintf(ipv6, sizeof(ipv6), "fd77::%u", 10 + attacher->number * 10 + i);
		if (port_attach(attacher->net, &port, attacher->netns_fd, NULL) < 0 ||
		    namespace_of_thread() != attacher->home)
			attacher->failures++;
	}
	return NULL;
}

static void many_ports_at_once(void **state)
{
	AUTO(folder_done) char *folder = make_folder();
	AUTO(bridge_status_done) struct bridge_status status = {};
	AUTO(net_observed_done) struct net_observed observed = {};
	struct attacher attachers[THREADS];
	pthread_t threads[THREADS];
	struct error err = {};
	struct net *net;

	(void) state;
	NEED_OWN_NETNS();
	NEED_DNSMASQ();
	AUTO(fd_close) int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	net = open_net(folder);
	if (network_ensure(net, &crowd, &status, &err) < 0)
		fail_msg("%s", err.msg);
	for (unsigned int i = 0; i < THREADS; i++) {
		attachers[i] =
			(struct attacher){ .net = net, .number = i, .home = namespace_of_thread() };
		assert_int_equal(unshare(CLONE_NEWNET), 0);
		attachers[i].netns_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
		assert_int_equal(setns(home, CLONE_NEWNET), 0);
	}
	for (unsigned int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, attach_much, &attachers[i]), 0);
	for (unsigned int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(attachers[i].failures, 0);
		close(attachers[i].netns_fd);
	}
	/* Their namespaces may be gone by now, and the interfaces with them; the names are not. */
	assert_int_equal(net_observe(net, &observed, NULL), 0);
	assert_string_equal(observed.networks[0], "ab");
	assert_int_equal(net_destroy(net, NULL), 0);
	net_free(net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_bad_options),
		cmocka_unit_test(remembers_after_a_crash),
		cmocka_unit_test(survives_a_flush),
		cmocka_unit_test(many_threads_at_once),
		cmocka_unit_test(removes_everything_of_a_network),
		cmocka_unit_test(many_ports_at_once),
		cmocka_unit_test(isolated_networks_may_be_alike),
		cmocka_unit_test(ports_come_and_go),
	};

	return cmocka_run_group_tests(tests, enter_own_netns, NULL);
}
