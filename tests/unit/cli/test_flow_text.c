#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/json.h"
#include "cli/flow_text.h"

static json_t *parse(const char *text)
{
	json_t *line = NULL;

	if (json_parse(text, strlen(text), 4096, &line, NULL) < 0)
		fail_msg("%s", text);
	return line;
}

static void expect(const char *given, const char *wanted)
{
	AUTO(json_decref) json_t *line = parse(given);
	AUTO(strbuf_done) struct strbuf out = {};

	flow_text(&out, line);
	assert_string_equal(strbuf_str(&out), wanted);
}

static void lines_for_people(void **state)
{
	(void) state;
	expect("{\"start\":\"2026-11-21T22:01:02.500Z\",\"end\":\"2026-11-21T22:01:04.600Z\","
	       "\"protocol\":\"tcp\",\"source\":\"192.0.2.7\",\"source_port\":41234,"
	       "\"destination\":\"198.51.100.1\",\"destination_port\":8080,\"translated\":{"
	       "\"destination\":\"10.90.0.6\",\"destination_port\":80},"
	       "\"destination_instance\":\"db\",\"sent\":{\"bytes\":1229,\"packets\":8},"
	       "\"received\":{\"bytes\":100,\"packets\":1},\"reason\":\"closed\"}",
	       "2026-11-21 22:01:02  2s  tcp  192.0.2.7:41234  ->  198.51.100.1:8080 => "
	       "10.90.0.6:80 (db)  closed, sent 1.2 KiB in 8, received 100 B in 1\n");
	expect("{\"protocol\":\"icmpv6\",\"source\":\"fd00::2\",\"destination\":\"fd00::3\","
	       "\"source_instance\":\"a\",\"router\":\"edge\",\"open\":true}",
	       "-  icmpv6  fd00::2 (a)  ->  fd00::3  by router edge  open\n");
	expect("{\"protocol\":\"udp\",\"source\":\"fd00::2\",\"source_port\":5,\"destination\":"
	       "\"fd00::3\",\"destination_port\":53,\"reason\":\"idle\"}",
	       "-  udp  [fd00::2]:5  ->  [fd00::3]:53  idle\n");
}

static void what_is_missing(void **state)
{
	(void) state;
	expect("{\"gap\":{\"from\":\"2026-11-21T22:01:02.000Z\",\"to\":\"2026-11-21T22:01:03."
	       "000Z\"}}",
	       "-- what ended between 2026-11-21 22:01:02 and 2026-11-21 22:01:03 is missing\n");
	expect("{\"lost\":17}", "-- 17 flows are missing: too many ended on the node at once\n");
	expect("{\"left_out\":3}", "-- 3 more are open\n");
}

/* What a server says never commands the terminal, nor is it believed to be whole. */
static void strange_lines(void **state)
{
	(void) state;
	expect("{}", "-  ?  ?  ->  ?  ?\n");
	expect("{\"protocol\":\"\\u001b[31m\",\"source\":7,\"translated\":9,\"sent\":\"x\"}",
	       "-  ?[31m  ?  ->  ?  ?, sent 0 B in 0\n");
}

static void one_instance(void **state)
{
	AUTO(json_decref)
	json_t *flow = parse("{\"protocol\":\"tcp\",\"source_instance\":\"a\","
			     "\"destination_instance\":\"b\"}");
	AUTO(json_decref) json_t *lost = parse("{\"lost\":1}");

	(void) state;
	assert_true(flow_concerns(flow, NULL));
	assert_true(flow_concerns(flow, "a"));
	assert_true(flow_concerns(flow, "b"));
	assert_false(flow_concerns(flow, "c"));
	assert_true(flow_concerns(lost, "c"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_for_people),
		cmocka_unit_test(what_is_missing),
		cmocka_unit_test(strange_lines),
		cmocka_unit_test(one_instance),
	};

	setenv("TZ", "UTC", 1);
	tzset();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
