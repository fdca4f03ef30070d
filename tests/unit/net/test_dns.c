#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strv.h"
#include "net/address.h"
#include "net/dns_internal.h"
#include "net/network_internal.h"
#include "net/node_internal.h"

static struct net net;

static int setup(void **state)
{
	char *folder = mem_strdup("/tmp/brume-test-dns-XXXXXX");

	if (!mkdtemp(folder))
		return -1;
	*state = folder;
	net = (struct net){ .networks_dir = folder,
			    .networks_dir_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
	return net.networks_dir_fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	close(net.networks_dir_fd);
	(void) file_remove_tree(AT_FDCWD, *state);
	free(*state);
	return 0;
}

static char *contents(const char *path)
{
	char *text = NULL;

	return file_read(net.networks_dir_fd, path, 65536, &text, NULL) < 0 ? NULL : text;
}

static void expect(const char *path, const char *want)
{
	AUTO(free) char *text = contents(path);

	if (!want)
		assert_null(text);
	else if (!text)
		fail_msg("%s is not there", path);
	else
		assert_string_equal(text, want);
}

static const struct network_plan web = {
	.domain = "web.test", .zone = "web.shop.internal", .project = "shop", .isolated = true
};

static void ensure(const char *uid, const struct network_plan *plan, struct network_dns *ret)
{
	struct error err = {};

	if (dns_ensure(&net, uid, "brume-1", plan, ret, &err) < 0)
		fail_msg("%s", err.msg);
}

static void publish(const char *uid, const char *port, const char *name,
		    const struct network_plan *plan, const char *ipv4, const char *ipv6)
{
	struct route_ip ip4 = {}, ip6 = {};
	struct error err = {};

	if (ipv4)
		assert_int_equal(address_parse(ipv4, &ip4), 0);
	if (ipv6)
		assert_int_equal(address_parse(ipv6, &ip6), 0);
	if (dns_set_name(&net, uid, port, name, plan, &ip4, &ip6, &err) < 0)
		fail_msg("%s", err.msg);
}

static void names_come_and_go(void **state)
{
	struct network_plan plain = { .domain = "web.test", .isolated = true };
	struct network_dns dns = {};

	(void) state;
	ensure("aa", &web, &dns);
	assert_null(dns.argv);
	publish("aa", "11", "www", &web, "10.0.0.5", "fd00::5");
	expect("aa/hosts/11", "10.0.0.5 www.web.shop.internal www www.web.test\n"
			      "fd00::5 www.web.shop.internal www www.web.test\n");
	expect("projects/shop/11",
	       "10.0.0.5 www.web.shop.internal\nfd00::5 www.web.shop.internal\n");
	publish("aa", "11", "other", &web, "10.0.0.6", NULL);
	expect("projects/shop/11", "10.0.0.6 other.web.shop.internal\n");
	assert_int_equal(dns_remove_name(&net, "aa", "11", NULL), 0);
	expect("aa/hosts/11", NULL);
	expect("projects/shop/11", NULL);
	assert_int_equal(dns_remove_name(&net, "aa", "11", NULL), 0);
	/* Without a zone there are no full names. */
	ensure("bb", &plain, &dns);
	publish("bb", "22", "www", &plain, "10.0.0.5", NULL);
	expect("bb/hosts/22", "10.0.0.5 www.web.test www\n");
	assert_int_equal(faccessat(net.networks_dir_fd, "bb/project", F_OK, 0), -1);
}

static void a_project_goes_with_its_last_network(void **state)
{
	struct network_dns dns = {};
	struct error err = {};

	(void) state;
	ensure("aa", &web, &dns);
	ensure("bb", &web, &dns);
	publish("aa", "11", "www", &web, "10.0.0.5", NULL);
	publish("bb", "22", "www", &web, "10.0.0.5", NULL);
	assert_int_equal(dns_remove(&net, "aa", &err), 0);
	expect("projects/shop/11", NULL);
	expect("projects/shop/22", "10.0.0.5 www.web.shop.internal\n");
	assert_int_equal(dns_remove(&net, "aa", &err), 0);
	assert_int_equal(dns_remove(&net, "bb", &err), 0);
	assert_int_equal(faccessat(net.networks_dir_fd, "projects/shop", F_OK, 0), -1);
	assert_int_equal(faccessat(net.networks_dir_fd, "bb", F_OK, 0), -1);
}

static void the_configuration_says_what_is_whose(void **state)
{
	struct network_plan plan = web;
	struct network_dns dns = {};
	AUTO(free) char *text = NULL;

	(void) state;
	if (access("/usr/sbin/dnsmasq", X_OK) < 0) {
		print_message("skipped: dnsmasq is not installed\n");
		skip();
	}
	plan.isolated = false;
	ensure("aa", &plan, &dns);
	assert_true(dns.restart);
	strv_free(dns.argv);
	dns = (struct network_dns){};
	ensure("aa", &plan, &dns);
	assert_false(dns.restart);
	strv_free(dns.argv);
	text = contents("aa/dnsmasq.conf");
	assert_non_null(strstr(text, "\nlocal=/internal/\n"));
	assert_non_null(strstr(text, "\nlocal=/web.test/\n"));
	assert_non_null(strstr(text, "/projects/shop\n"));
	assert_null(strstr(text, "dhcp"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(names_come_and_go, setup, teardown),
		cmocka_unit_test_setup_teardown(a_project_goes_with_its_last_network, setup,
						teardown),
		cmocka_unit_test_setup_teardown(the_configuration_says_what_is_whose, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
