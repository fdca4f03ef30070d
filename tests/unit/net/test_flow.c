#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <netinet/in.h>

#include "net/flow.h"

#define S UINT64_C(1000000000)

/* A flow ends some time after its last packet: when its time-out is over. */
static void when_its_last_packet_came(void **state)
{
	static const struct flow_timeouts timeouts = { .tcp = { [TCP_CONNTRACK_TIME_WAIT] = 120 },
						       .udp = 30,
						       .udp_stream = 90,
						       .icmp = 20,
						       .icmpv6 = 25,
						       .other = 600 };
	static const struct flow_timeouts unknown = {};
	struct conntrack_flow flow = { .start_ns = 1000 * S,
				       .stop_ns = 2000 * S,
				       .protocol = IPPROTO_TCP,
				       .has_tcp_state = true,
				       .tcp_state = TCP_CONNTRACK_TIME_WAIT };

	(void) state;
	assert_int_equal(flow_last_ns(&flow, &timeouts), 1880 * S);
	flow.left_s = 20; /* somebody has ended it before */
	assert_int_equal(flow_last_ns(&flow, &timeouts), 1900 * S);
	flow.left_s = 500;
	assert_int_equal(flow_last_ns(&flow, &timeouts), 2000 * S);
	flow.left_s = 0;
	assert_int_equal(flow_last_ns(&flow, &unknown), 2000 * S);
	flow.tcp_state = 200;
	assert_int_equal(flow_last_ns(&flow, &timeouts), 2000 * S);
	flow.has_tcp_state = false;
	assert_int_equal(flow_last_ns(&flow, &timeouts), 2000 * S);
	flow.protocol = IPPROTO_UDP;
	assert_int_equal(flow_last_ns(&flow, &timeouts), 1970 * S);
	flow.assured = true;
	assert_int_equal(flow_last_ns(&flow, &timeouts), 1910 * S);
	flow.protocol = IPPROTO_ICMP;
	assert_int_equal(flow_last_ns(&flow, &timeouts), 1980 * S);
	flow.protocol = IPPROTO_ICMPV6;
	assert_int_equal(flow_last_ns(&flow, &timeouts), 1975 * S);
	flow.protocol = 89;
	assert_int_equal(flow_last_ns(&flow, &timeouts), 1400 * S);
	/* Never before it began, whatever the time-outs were then. */
	flow.stop_ns = 1300 * S;
	assert_int_equal(flow_last_ns(&flow, &timeouts), 1000 * S);
	flow.start_ns = flow.stop_ns = 0;
	assert_int_equal(flow_last_ns(&flow, &timeouts), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(when_its_last_packet_came),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
