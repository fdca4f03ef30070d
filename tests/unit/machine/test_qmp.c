#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "base/json.h"
#include "base/strbuf.h"
#include "machine/qmp.h"

static struct qmp_message decode(const char *line)
{
	struct qmp_message message = {};

	assert_int_equal(qmp_decode(line, strlen(line), &message, NULL), 0);
	return message;
}

static void knows_the_four_kinds(void **state)
{
	struct qmp_message message = decode("{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, "
					    "\"minor\": 2, \"major\": 7}}}}\r");

	(void) state;
	assert_int_equal(message.kind, QMP_GREETING);
	assert_string_equal(message.text, "7.2.22");
	qmp_message_done(&message);

	message = decode("{\"return\": {}, \"id\": 12}");
	assert_int_equal(message.kind, QMP_RETURN);
	assert_int_equal(message.id, 12);
	assert_true(json_is_object(message.data));
	qmp_message_done(&message);

	message = decode("{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\\u0007pe\"}, "
			 "\"id\": 3}");
	assert_int_equal(message.kind, QMP_ERROR);
	assert_string_equal(message.text, "no\\x07pe");
	qmp_message_done(&message);

	message = decode("{\"event\": \"STOP\", \"timestamp\": {\"seconds\": 1}}");
	assert_int_equal(message.kind, QMP_EVENT);
	assert_string_equal(message.text, "STOP");
	assert_true(json_is_object(message.data));
	qmp_message_done(&message);
}

static void refuses_the_rest(void **state)
{
	static const char *const lines[] = {
		"", "x", "[]", "1", "{}", "{\"event\": 1}", "{\"QMP\": 1}", "{\"error\": \"text\"}"
	};
	struct qmp_message message = {};

	(void) state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_int_equal(qmp_decode(lines[i], strlen(lines[i]), &message, NULL), -EPROTO);
	assert_null(message.text);
}

static void odd_values_are_harmless(void **state)
{
	struct qmp_message message = decode("{\"return\": [1, 2], \"id\": -4}");

	(void) state;
	assert_int_equal(message.id, 0);
	qmp_message_done(&message);
	message = decode("{\"return\": null, \"id\": \"x\"}");
	assert_int_equal(message.id, 0);
	qmp_message_done(&message);
}

static void tells_why_it_ended(void **state)
{
	static const struct {
		const char *data;
		enum qmp_cause want;
	} rows[] = {
		{ "{\"guest\": true, \"reason\": \"guest-shutdown\"}", QMP_CAUSE_POWEROFF },
		{ "{\"guest\": true, \"reason\": \"guest-reset\"}", QMP_CAUSE_RESET },
		{ "{\"guest\": true, \"reason\": \"guest-panic\"}", QMP_CAUSE_PANIC },
		{ "{\"guest\": false, \"reason\": \"host-qmp-quit\"}", QMP_CAUSE_HOST },
		{ "{\"guest\": false, \"reason\": \"host-signal\"}", QMP_CAUSE_HOST },
		{ "{\"guest\": false, \"reason\": \"host-error\"}", QMP_CAUSE_ERROR },
		{ "{\"reason\": 1}", QMP_CAUSE_ERROR },
		{ "{}", QMP_CAUSE_ERROR },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		AUTO(json_decref) json_t *data = json_loads(rows[i].data, 0, NULL);

		assert_int_equal(qmp_shutdown_cause(data), rows[i].want);
	}
}

static void commands_are_lines(void **state)
{
	AUTO(strbuf_done) struct strbuf out = {};

	(void) state;
	qmp_append_command(&out, "stop", 7);
	qmp_append_command(&out, "cont", 8);
	assert_string_equal(strbuf_str(&out), "{\"execute\":\"stop\",\"id\":7}\n"
					      "{\"execute\":\"cont\",\"id\":8}\n");
}

static void counts_of_disks(void **state)
{
	AUTO(json_decref)
	json_t *data = json_loads("[{\"node-name\": \"disk0\", \"stats\": {\"rd_bytes\": 512, "
				  "\"rd_operations\": 1, \"wr_bytes\": -1}}, 4]",
				  0, NULL);
	AUTO(json_decref) json_t *disks = qmp_disk_metrics(data);
	AUTO(free) char *text = json_text(disks);

	(void) state;
	assert_string_equal(text,
			    "[{\"flushes\":0,\"id\":\"disk0\",\"read_bytes\":512,\"reads\":1,"
			    "\"writes\":0,\"written_bytes\":0},{\"flushes\":0,\"id\":\"\","
			    "\"read_bytes\":0,\"reads\":0,\"writes\":0,\"written_bytes\":0}]");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_the_four_kinds),    cmocka_unit_test(refuses_the_rest),
		cmocka_unit_test(odd_values_are_harmless), cmocka_unit_test(tells_why_it_ended),
		cmocka_unit_test(commands_are_lines),      cmocka_unit_test(counts_of_disks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
