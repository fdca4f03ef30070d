#include "container/stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void expect(json_t *value, const char *expected)
{
	AUTO(json_decref) json_t *got = value;
	AUTO(json_decref) json_t *want = json_loads(expected, 0, NULL);

	assert_non_null(want);
	assert_true(json_equal(got, want));
}

static void test_pairs(void **state)
{
	(void) state;
	expect(stats_parse_pairs("cache 12\nrss 9223372036854771712\nbroken\n\nlast 7"),
	       "{\"cache\":12,\"rss\":9223372036854771712,\"last\":7}");
	expect(stats_parse_pairs(""), "{}");
	assert_int_equal(stats_pair("low 1\noom_kill 3\n", "oom_kill"), 3);
	assert_int_equal(stats_pair("oom_kill_x 3\n", "oom_kill"), 0);
}

static void test_pressure(void **state)
{
	(void) state;
	expect(stats_parse_pressure("some avg10=0.50 avg60=1.00 avg300=0.00 total=99\nfull x\n"),
	       "{\"some\":{\"avg10\":0.5,\"avg60\":1.0,\"avg300\":0.0,\"total\":99}}");
}

static void test_io(void **state)
{
	(void) state;
	expect(stats_parse_blkio("8:0 Read 12\n8:16 Write 3\nTotal 15\n"),
	       "[{\"major\":8,\"minor\":0,\"op\":\"Read\",\"value\":12},"
	       "{\"major\":8,\"minor\":16,\"op\":\"Write\",\"value\":3}]");
	expect(stats_parse_io("254:1 rbytes=1 wbytes=2 rios=3 wios=4\n8:0 \nx\n", "rios", "wios"),
	       "[{\"major\":254,\"minor\":1,\"op\":\"Read\",\"value\":3},"
	       "{\"major\":254,\"minor\":1,\"op\":\"Write\",\"value\":4},"
	       "{\"major\":8,\"minor\":0,\"op\":\"Read\",\"value\":0},"
	       "{\"major\":8,\"minor\":0,\"op\":\"Write\",\"value\":0}]");
}

static void test_list(void **state)
{
	(void) state;
	expect(stats_parse_list("0-2,7\n"), "[0,1,2,7]");
	expect(stats_parse_list("\n"), "[]");
	expect(stats_parse_list("3-1"), "[]");
}

static void test_interfaces(void **state)
{
	static const char text[] =
		"Inter-|   Receive                    |  Transmit\n"
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes\n"
		"    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n"
		"  eth0: 10 2 3 4 0 0 0 0 50 6 7 8 0 0 0 0\n";

	(void) state;
	expect(stats_parse_interfaces(text),
	       "[{\"Name\":\"eth0\",\"RxBytes\":10,\"RxPackets\":2,\"RxErrors\":3,\"RxDropped\":4,"
	       "\"TxBytes\":50,\"TxPackets\":6,\"TxErrors\":7,\"TxDropped\":8}]");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pairs),      cmocka_unit_test(test_pressure),
		cmocka_unit_test(test_io),         cmocka_unit_test(test_list),
		cmocka_unit_test(test_interfaces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
