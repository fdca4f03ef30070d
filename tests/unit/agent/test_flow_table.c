#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <netinet/in.h>

#include "agent/flow_table.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "kern/conntrack.h"
#include "model/network.h"
#include "model/port.h"
#include "net/flow.h"

#define MS UINT64_C(1000000)
enum { NOW_MS = 1000000000 };

static const struct flow_timeouts timeouts = {
	.tcp = { [TCP_CONNTRACK_TIME_WAIT] = 120, [TCP_CONNTRACK_ESTABLISHED] = 1000 },
	.udp = 30,
	.udp_stream = 120
};

static void add_network(struct flow_table *table, const char *uid, const char *project,
			const char *ipv4, uint16_t zone, bool isolated)
{
	struct network network = {};

	snprintf(network.meta.uid, sizeof(network.meta.uid), "%s", uid);
	network.meta.project = (char *) project;
	assert_int_equal(subnet_parse(ipv4, 4, "", &network.spec.ipv4, NULL), 0);
	assert_int_equal(subnet_parse("fd00:1::/64", 6, "", &network.spec.ipv6, NULL), 0);
	network.spec.isolated = isolated;
	network.spec.flow_log = true;
	flow_table_add_network(table, &network, zone);
}

static void add_instance(struct flow_table *table, const char *name, const char *network,
			 const char *ipv4, int64_t created_ms)
{
	struct port port = {};
	char uid[UID_SIZE];

	snprintf(uid, sizeof(uid), "u%s", name);
	snprintf(port.network_uid, sizeof(port.network_uid), "%s", network);
	snprintf(port.ipv4, sizeof(port.ipv4), "%s", ipv4);
	flow_table_add_port(table, uid, name, created_ms, &port);
}

static void set_way(struct conntrack_way *way, const char *from, uint16_t from_port, const char *to,
		    uint16_t to_port)
{
	assert_int_equal(inet_pton(AF_INET, from, way->source), 1);
	assert_int_equal(inet_pton(AF_INET, to, way->destination), 1);
	way->source_port = from_port;
	way->destination_port = to_port;
}

/* Of TCP, untranslated, closed. */
static struct conntrack_flow make_flow(const char *from, const char *to)
{
	struct conntrack_flow flow = { .family = AF_INET,
				       .protocol = IPPROTO_TCP,
				       .answered = true,
				       .start_ns = NOW_MS * MS,
				       .stop_ns = (NOW_MS + 121000) * MS,
				       .has_tcp_state = true,
				       .tcp_state = TCP_CONNTRACK_TIME_WAIT };

	set_way(&flow.there, from, 4000, to, 80);
	set_way(&flow.back, to, 80, from, 4000);
	return flow;
}

struct matched {
	const struct flow_network *list[8];
	size_t count;
};

static void take(const struct flow_network *network, void *data)
{
	struct matched *matched = data;

	matched->list[matched->count++] = network;
}

static struct matched match(const struct flow_table *table, const char *router,
			    const struct conntrack_flow *flow)
{
	struct matched matched = {};

	flow_table_match(table, router, flow, take, &matched);
	return matched;
}

/* Of the only network that has it. */
static void expect_line(const struct flow_table *table, const char *router,
			const struct conntrack_flow *flow, const char *wanted)
{
	AUTO(strbuf_done) struct strbuf line = {};
	struct matched matched = match(table, router, flow);

	assert_int_equal(matched.count, 1);
	flow_table_line(table, matched.list[0], router, flow, &timeouts, &line);
	assert_string_equal(strbuf_str(&line), wanted);
}

static void expect_has(const struct flow_table *table, const struct conntrack_flow *flow,
		       const char *words)
{
	AUTO(strbuf_done) struct strbuf line = {};
	struct matched matched = match(table, NULL, flow);

	assert_int_equal(matched.count, 1);
	flow_table_line(table, matched.list[0], NULL, flow, &timeouts, &line);
	if (!strstr(strbuf_str(&line), words))
		fail_msg("%s is not in %s", words, strbuf_str(&line));
}

static void whose_it_is(void **state)
{
	AUTO(flow_table_free) struct flow_table *table = flow_table_new();
	AUTO(strv_free) char **joined = NULL;
	struct conntrack_flow flow = make_flow("10.1.0.2", "192.0.2.1");

	(void) state;
	add_network(table, "a", "p", "10.1.0.0/24", 0, false);
	add_network(table, "b", "p", "10.2.0.0/24", 0, false);
	add_network(table, "c", "p", "10.1.0.0/24", 7, true);
	add_network(table, "d", "p", "10.1.0.0/24", 0, true);
	strv_append(&joined, "d");
	flow_table_add_router(table, "r", "edge", joined);
	assert_string_equal(flow_network_uid(match(table, NULL, &flow).list[0]), "a");
	assert_int_equal(match(table, NULL, &flow).count, 1);
	/* The node's own, and those of a zone that is no network's. */
	flow = make_flow("192.0.2.7", "192.0.2.1");
	assert_int_equal(match(table, NULL, &flow).count, 0);
	flow.zone = 9;
	assert_int_equal(match(table, NULL, &flow).count, 0);
	/* A zone is a network's, whatever the addresses are. */
	flow.zone = 7;
	assert_string_equal(flow_network_uid(match(table, NULL, &flow).list[0]), "c");
	/* In a router those that it joins. */
	flow = make_flow("10.1.0.2", "192.0.2.1");
	assert_string_equal(flow_network_uid(match(table, "r", &flow).list[0]), "d");
	assert_int_equal(match(table, "r", &flow).count, 1);
	assert_int_equal(match(table, "unknown", &flow).count, 0);
	assert_true(flow_table_joins(table, "r", "d"));
	assert_false(flow_table_joins(table, "r", "a"));
	/* Between two networks; and by what an address was translated into. */
	flow = make_flow("10.1.0.2", "10.2.0.2");
	assert_int_equal(match(table, NULL, &flow).count, 2);
	flow = make_flow("192.0.2.7", "192.0.2.1");
	set_way(&flow.back, "10.2.0.2", 80, "192.0.2.7", 4000);
	assert_string_equal(flow_network_uid(match(table, NULL, &flow).list[0]), "b");
}

static void the_line(void **state)
{
	AUTO(flow_table_free) struct flow_table *table = flow_table_new();
	struct conntrack_flow flow = make_flow("10.1.0.2", "10.1.0.3");

	(void) state;
	add_network(table, "a", "p", "10.1.0.0/24", 0, false);
	add_instance(table, "web", "a", "10.1.0.2", 1);
	expect_line(table, NULL, &flow,
		    "{\"start\":\"1970-01-12T13:46:40.000Z\",\"end\":\"1970-01-12T13:46:41.000Z\","
		    "\"protocol\":\"tcp\",\"source\":\"10.1.0.2\",\"source_port\":4000,"
		    "\"destination\":\"10.1.0.3\",\"destination_port\":80,"
		    "\"source_instance\":\"web\",\"source_instance_uid\":\"uweb\","
		    "\"reason\":\"closed\"}");
	flow = make_flow("192.0.2.7", "192.0.2.1");
	set_way(&flow.back, "10.1.0.2", 8080, "10.1.0.1", 5000);
	flow.there.counted = flow.back.counted = true;
	flow.there.bytes = UINT64_MAX;
	flow.there.packets = 2;
	flow.start_ns = flow.stop_ns = 0;
	flow.tcp_state = TCP_CONNTRACK_CLOSE;
	expect_line(table, NULL, &flow,
		    "{\"protocol\":\"tcp\",\"source\":\"192.0.2.7\",\"source_port\":4000,"
		    "\"destination\":\"192.0.2.1\",\"destination_port\":80,\"translated\":{"
		    "\"source\":\"10.1.0.1\",\"source_port\":5000,\"destination\":\"10.1.0.2\","
		    "\"destination_port\":8080},\"destination_instance\":\"web\","
		    "\"destination_instance_uid\":\"uweb\",\"sent\":{\"bytes\":"
		    "18446744073709551615,\"packets\":2},\"received\":{\"bytes\":0,\"packets\":0},"
		    "\"reason\":\"reset\"}");
}

static void why_it_ended(void **state)
{
	AUTO(flow_table_free) struct flow_table *table = flow_table_new();
	struct conntrack_flow flow = make_flow("10.1.0.2", "10.1.0.3");

	(void) state;
	add_network(table, "a", "p", "10.1.0.0/24", 0, false);
	flow.tcp_state = TCP_CONNTRACK_ESTABLISHED;
	expect_has(table, &flow, "\"reason\":\"idle\"");
	flow.left_s = 5;
	expect_has(table, &flow, "\"reason\":\"removed\"");
	flow.left_s = 0;
	flow.has_tcp_state = false;
	expect_has(table, &flow, "\"reason\":\"unknown\"");
	flow.protocol = IPPROTO_UDP;
	expect_has(table, &flow, "\"protocol\":\"udp\"");
	expect_has(table, &flow, "\"reason\":\"idle\"");
	flow.answered = false;
	expect_has(table, &flow, "\"reason\":\"unanswered\"");
	flow.protocol = 89;
	expect_has(table, &flow, "\"protocol\":\"89\"");
	flow.protocol = IPPROTO_ICMP;
	flow.icmp_type = 8;
	expect_has(table, &flow, "\"icmp_type\":8,\"icmp_code\":0");
}

/* An address is whose it was when the flow began. */
static void addresses_that_change_hands(void **state)
{
	AUTO(flow_table_free) struct flow_table *first = flow_table_new();
	AUTO(flow_table_free) struct flow_table *second = flow_table_new();
	AUTO(flow_table_free) struct flow_table *third = flow_table_new();
	struct conntrack_flow flow = make_flow("10.1.0.2", "192.0.2.1");

	(void) state;
	add_network(first, "a", "p", "10.1.0.0/24", 0, false);
	add_instance(first, "old", "a", "10.1.0.2", NOW_MS - 5000);
	flow_table_follow(first, NULL, NOW_MS);
	expect_has(first, &flow, "\"source_instance\":\"old\"");
	/* Nobody's at all. */
	add_network(second, "a", "p", "10.1.0.0/24", 0, false);
	flow_table_follow(second, first, NOW_MS + 1000);
	expect_has(second, &flow, "\"source_instance\":\"old\"");
	/* Another one's. */
	add_network(third, "a", "p", "10.1.0.0/24", 0, false);
	add_instance(third, "new", "a", "10.1.0.2", NOW_MS + 2000);
	flow_table_follow(third, second, NOW_MS + 2500);
	expect_has(third, &flow, "\"source_instance\":\"old\"");
	flow.start_ns = (NOW_MS + 3000) * MS;
	expect_has(third, &flow, "\"source_instance\":\"new\"");
	flow.start_ns = 0;
	expect_has(third, &flow, "\"source_instance\":\"new\"");
	/* Before all of them. */
	flow.start_ns = (NOW_MS - 60000) * MS;
	AUTO(strbuf_done) struct strbuf line = {};
	flow_table_line(third, match(third, NULL, &flow).list[0], NULL, &flow, NULL, &line);
	assert_null(strstr(strbuf_str(&line), "instance"));
	assert_non_null(strstr(strbuf_str(&line), "\"open\":true}"));
}

/* One that was there before keeps its time, however often the table is made anew. */
static void who_stays_stays(void **state)
{
	struct flow_table *table = NULL;
	struct conntrack_flow flow = make_flow("10.1.0.2", "192.0.2.1");

	(void) state;
	for (int i = 0; i < 100; i++) {
		struct flow_table *next = flow_table_new();

		add_network(next, "a", "p", "10.1.0.0/24", 0, false);
		add_instance(next, "web", "a", "10.1.0.2", NOW_MS - 1);
		flow_table_follow(next, table, NOW_MS + i * 100000);
		flow_table_free(table);
		table = next;
	}
	expect_has(table, &flow, "\"source_instance\":\"web\"");
	flow_table_free(table);
}

/* What is behind a translation and another project's is not told. */
static void other_projects(void **state)
{
	AUTO(flow_table_free) struct flow_table *table = flow_table_new();
	AUTO(strbuf_done) struct strbuf ours = {};
	AUTO(strbuf_done) struct strbuf theirs = {};
	struct conntrack_flow flow = make_flow("10.1.0.2", "192.0.2.1");
	struct matched matched;

	(void) state;
	add_network(table, "a", "p", "10.1.0.0/24", 0, false);
	add_network(table, "b", "q", "10.2.0.0/24", 0, false);
	add_instance(table, "web", "a", "10.1.0.2", 1);
	add_instance(table, "db", "b", "10.2.0.5", 1);
	set_way(&flow.back, "10.2.0.5", 5432, "192.0.2.9", 4000);
	matched = match(table, NULL, &flow);
	assert_int_equal(matched.count, 2);
	flow_table_line(table, matched.list[0], NULL, &flow, NULL, &ours);
	flow_table_line(table, matched.list[1], NULL, &flow, NULL, &theirs);
	assert_string_equal(strbuf_str(&ours),
			    "{\"start\":\"1970-01-12T13:46:40.000Z\",\"protocol\":\"tcp\","
			    "\"source\":\"10.1.0.2\",\"source_port\":4000,"
			    "\"destination\":\"192.0.2.1\",\"destination_port\":80,"
			    "\"translated\":{\"source\":\"192.0.2.9\",\"source_port\":4000},"
			    "\"source_instance\":\"web\",\"source_instance_uid\":\"uweb\","
			    "\"open\":true}");
	assert_string_equal(strbuf_str(&theirs),
			    "{\"start\":\"1970-01-12T13:46:40.000Z\",\"protocol\":\"tcp\","
			    "\"source\":\"192.0.2.9\",\"source_port\":4000,"
			    "\"destination\":\"192.0.2.1\",\"destination_port\":80,"
			    "\"translated\":{\"destination\":\"10.2.0.5\","
			    "\"destination_port\":5432},\"destination_instance\":\"db\","
			    "\"destination_instance_uid\":\"udb\",\"open\":true}");
}

static void routers_have_names(void **state)
{
	AUTO(flow_table_free) struct flow_table *table = flow_table_new();
	AUTO(strv_free) char **joined = NULL;
	struct conntrack_flow flow = make_flow("10.1.0.2", "10.2.0.2");

	(void) state;
	add_network(table, "a", "p", "10.1.0.0/24", 3, true);
	add_network(table, "b", "p", "10.2.0.0/24", 4, true);
	add_instance(table, "there", "b", "10.2.0.2", 1);
	strv_append(&joined, "a");
	strv_append(&joined, "b");
	flow_table_add_router(table, "r", "edge", joined);
	assert_int_equal(match(table, "r", &flow).count, 2);
	AUTO(strbuf_done) struct strbuf line = {};
	flow_table_line(table, match(table, "r", &flow).list[0], "r", &flow, NULL, &line);
	assert_non_null(strstr(strbuf_str(&line), "\"destination_instance\":\"there\""));
	assert_non_null(strstr(strbuf_str(&line), "\"router\":\"edge\""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whose_it_is),        cmocka_unit_test(the_line),
		cmocka_unit_test(why_it_ended),       cmocka_unit_test(addresses_that_change_hands),
		cmocka_unit_test(who_stays_stays),    cmocka_unit_test(other_projects),
		cmocka_unit_test(routers_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
