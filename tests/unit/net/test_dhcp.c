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
#include "base/strbuf.h"
#include "net/address.h"
#include "net/dhcp_internal.h"
#include "net/node_internal.h"
#include "net/port_internal.h"

static struct network_plan make_plan(const char *ipv4, const char *ipv6)
{
	struct network_plan plan = { .domain = "web.test",
				     .zone = "web.shop.internal",
				     .project = "shop",
				     .dhcp = true,
				     .mtu = 1450 };

	if (ipv4)
		assert_int_equal(address_parse_subnet(ipv4, &plan.subnet4), 0);
	if (ipv6)
		assert_int_equal(address_parse_subnet(ipv6, &plan.subnet6), 0);
	return plan;
}

static void has(const char *text, const char *line)
{
	if (!strstr(text, line))
		fail_msg("'%s' is not in:\n%s", line, text);
}

static void only_known_ones_are_answered(void **state)
{
	struct network_plan plan = make_plan("10.90.4.0/22", "fd00:90::/64");
	AUTO(strbuf_done) struct strbuf text = {};

	(void) state;
	dhcp_put_config(&text, "/run/networks", "aa", "brume-1", &plan);
	has(strbuf_str(&text), "dhcp-range=10.90.4.0,static,255.255.252.0,10m\n");
	has(strbuf_str(&text), "dhcp-range=fd00:90::,static,64,10m\n");
	has(strbuf_str(&text), "enable-ra\n");
	has(strbuf_str(&text), "dhcp-ignore=tag:!known\n");
	has(strbuf_str(&text), "port=0\n");
	has(strbuf_str(&text), "interface=brume-1\n");
	has(strbuf_str(&text), "dhcp-hostsdir=/run/networks/aa/dhcp\n");
	has(strbuf_str(&text), "dhcp-option-force=option:mtu,1450\n");
	has(strbuf_str(&text), "dhcp-option=option:domain-search,web.shop.internal,web.test\n");
}

static void a_subnet_that_is_not_there_has_no_range(void **state)
{
	struct network_plan small = make_plan("10.90.4.0/24", "fd00:90::/80");
	struct network_plan six = make_plan(NULL, "fd00:90::/64");
	AUTO(strbuf_done) struct strbuf text = {}, text6 = {};

	(void) state;
	/* dnsmasq would not start with one that is longer than it can. */
	dhcp_put_config(&text, "/run/networks", "aa", "brume-1", &small);
	assert_null(strstr(strbuf_str(&text), "fd00"));
	assert_null(strstr(strbuf_str(&text), "enable-ra"));
	dhcp_put_config(&text6, "/run/networks", "aa", "brume-1", &six);
	assert_null(strstr(strbuf_str(&text6), "option:mtu"));
	has(strbuf_str(&text6), "fd00:90::,static");
}

static void expect(const struct net *net, const char *path, const char *want)
{
	AUTO(free) char *text = NULL;

	assert_int_equal(file_read(net->networks_dir_fd, path, 4096, &text, NULL), 0);
	assert_string_equal(text, want);
}

static void a_port_has_its_lease(void **state)
{
	char folder[] = "/tmp/brume-test-dhcp-XXXXXX";
	struct bridge_spec bridge = { .uid = "aa" };
	struct port_spec spec = { .network = &bridge, .uid = "11", .name = "www" };
	struct port_plan plan = { .mac = { 2, 0x62, 10, 90, 4, 5 }, .leads_out = true };
	struct net net = {};

	(void) state;
	assert_non_null(mkdtemp(folder));
	net.networks_dir = folder;
	net.networks_dir_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(net.networks_dir_fd, "aa", 0755), 0);
	assert_int_equal(mkdirat(net.networks_dir_fd, "aa/dhcp", 0755), 0);
	assert_int_equal(address_parse("10.90.4.5", &plan.ipv4), 0);
	assert_int_equal(address_parse("fd00:90::5", &plan.ipv6), 0);
	assert_int_equal(dhcp_set_port(&net, &spec, &plan, NULL), 0);
	expect(&net, "aa/dhcp/11", "02:62:0a:5a:04:05,id:*,10.90.4.5,[fd00:90::5],www,10m\n");
	plan.leads_out = false;
	plan.ipv6.family = 0;
	assert_int_equal(dhcp_set_port(&net, &spec, &plan, NULL), 0);
	expect(&net, "aa/dhcp/11", "02:62:0a:5a:04:05,id:*,set:inner,10.90.4.5,www,10m\n");
	assert_int_equal(dhcp_remove_port(&net, "aa", "11", NULL), 0);
	assert_int_equal(faccessat(net.networks_dir_fd, "aa/dhcp/11", F_OK, 0), -1);
	assert_int_equal(dhcp_remove_port(&net, "aa", "11", NULL), 0);
	close(net.networks_dir_fd);
	assert_int_equal(file_remove_tree(AT_FDCWD, folder), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_known_ones_are_answered),
		cmocka_unit_test(a_subnet_that_is_not_there_has_no_range),
		cmocka_unit_test(a_port_has_its_lease),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
