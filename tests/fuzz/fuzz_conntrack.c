/*
 * tests/fuzz/fuzz_conntrack.c - what the kernel says about a flow is mostly what strangers have
 * sent.
 *
 * The input is one netlink message.  What was decoded is written as a line of a flow log, which
 * must be JSON.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/flow_table.h"
#include "base/json.h"
#include "base/strbuf.h"
#include "kern/conntrack.h"
#include "model/network.h"
#include "net/flow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct look {
	const struct flow_table *table;
	const struct conntrack_flow *flow;
};

static void check_line(const struct look *look, const struct flow_network *network,
		       const struct flow_timeouts *timeouts)
{
	AUTO(strbuf_done) struct strbuf line = {};
	AUTO(json_decref) json_t *parsed = NULL;

	flow_table_line(look->table, network, NULL, look->flow, timeouts, &line);
	if (json_parse(line.data, line.size, 4096, &parsed, NULL) < 0 || !json_is_object(parsed))
		abort();
}

static void take(const struct flow_network *network, void *data)
{
	static const struct flow_timeouts timeouts = { .tcp = { [7] = 120 }, .udp = 30 };

	check_line(data, network, &timeouts);
	check_line(data, network, NULL);
}

/* All addresses are in it. */
static void add_network(struct flow_table *table, uint16_t zone)
{
	struct network network = { .meta = { .uid = "1", .project = (char *) "p" },
				   .spec = { .ipv4 = { .base.family = 4 },
					     .ipv6 = { .base.family = 6 },
					     .isolated = zone != 0 } };

	network.meta.uid[0] = (char) ('1' + zone % 8);
	flow_table_add_network(table, &network, zone);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Messages are aligned, and end where they end. */
	void *copy = malloc(size > 0 ? size : 1);
	struct conntrack_flow flow;

	assert(copy);
	if (size > 0)
		memcpy(copy, data, size);
	if (conntrack_decode(copy, size, &flow) == 0) {
		AUTO(flow_table_free) struct flow_table *table = flow_table_new();
		struct look look = { table, &flow };

		add_network(table, 0);
		if (flow.zone)
			add_network(table, flow.zone);
		flow_table_match(table, NULL, &flow, take, &look);
	}
	free(copy);
	return 0;
}
