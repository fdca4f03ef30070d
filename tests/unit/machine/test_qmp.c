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
	qmp_append_command(&out, "stop", NULL, 7);
	qmp_append_command(&out, "balloon", "{\"value\":1}", 8);
	assert_string_equal(strbuf_str(&out),
			    "{\"execute\":\"stop\",\"id\":7}\n"
			    "{\"execute\":\"balloon\",\"arguments\":{\"value\":1},\"id\":8}\n");
}

static void large_numbers_are_not_known(void **state)
{
	struct qmp_message message = decode(
		"{\"return\": [18446744073709551615, 9223372036854775808, 9223372036854775807, "
		"-9223372036854775808, 99999999999999999999999999, "
		"\"18446744073709551615 \\\" 18446744073709551615\"], \"id\": 4}");
	AUTO(free) char *text = json_text(message.data);

	(void) state;
	assert_string_equal(text, "[-1,-1,9223372036854775807,-1,-1,"
				  "\"18446744073709551615 \\\" 18446744073709551615\"]");
	qmp_message_done(&message);
}

static json_t *load(const char *text)
{
	json_t *value = json_loads(text, 0, NULL);

	assert_non_null(value);
	return value;
}

static void counts_of_disks(void **state)
{
	AUTO(json_decref)
	json_t *data = load("[{\"node-name\": \"disk0\", \"stats\": {\"rd_bytes\": 512, "
			    "\"rd_operations\": 1, \"wr_bytes\": -1, \"failed_rd_operations\": 2, "
			    "\"invalid_unmap_operations\": 3, \"unmap_bytes\": 4096}}, 4]");
	AUTO(json_decref) json_t *disks = qmp_disk_metrics(data);
	const json_t *disk = json_array_get(disks, 0);

	(void) state;
	assert_int_equal(json_array_size(disks), 2);
	assert_string_equal(json_string_value(json_object_get(disk, "id")), "disk0");
	assert_int_equal(qmp_number(disk, "reads"), 1);
	assert_int_equal(qmp_number(disk, "read_bytes"), 512);
	assert_int_equal(qmp_number(disk, "written_bytes"), 0);
	assert_int_equal(qmp_number(disk, "errors"), 5);
	assert_int_equal(qmp_number(disk, "discarded_bytes"), 4096);
	assert_string_equal(json_string_value(json_object_get(json_array_get(disks, 1), "id")), "");
}

static void what_a_guest_says_of_itself(void **state)
{
	AUTO(json_decref)
	json_t *data = load("{\"stats\": {\"stat-free-memory\": 5, \"stat-total-memory\": 9, "
			    "\"stat-swap-in\": -1, \"stat-htlb-pgfail\": 3, "
			    "\"stat-major-faults\": \"x\"}, \"last-update\": 1}");
	AUTO(json_decref) json_t *guest = qmp_guest_statistics(data);
	AUTO(json_decref) json_t *nothing = qmp_guest_statistics(NULL);
	AUTO(free) char *text = json_text(guest);

	(void) state;
	assert_string_equal(text, "{\"free_bytes\":5,\"total_bytes\":9,\"updates\":1}");
	assert_int_equal(json_object_size(nothing), 0);
}

static void counters_of_kvm_add_up(void **state)
{
	AUTO(json_decref)
	json_t *data = load(
		"[{\"provider\": \"kvm\", \"stats\": [{\"name\": \"exits\", \"value\": 4}, "
		"{\"name\": \"hist\", \"value\": [1, 2]}, {\"name\": \"\", \"value\": 1}, 7]}, "
		"{\"stats\": [{\"name\": \"exits\", \"value\": 6}, {\"name\": \"huge\", \"value\": "
		"9223372036854775807}]}, {\"stats\": [{\"name\": \"huge\", \"value\": 1}]}, {}]");
	AUTO(json_decref) json_t *sum = qmp_kvm_counters(data);
	AUTO(json_decref) json_t *none = qmp_kvm_counters(NULL);
	AUTO(free) char *text = json_text(sum);

	(void) state;
	assert_string_equal(text, "{\"exits\":10,\"huge\":0}");
	assert_int_equal(json_object_size(none), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_the_four_kinds),
		cmocka_unit_test(refuses_the_rest),
		cmocka_unit_test(odd_values_are_harmless),
		cmocka_unit_test(tells_why_it_ended),
		cmocka_unit_test(commands_are_lines),
		cmocka_unit_test(counts_of_disks),
		cmocka_unit_test(large_numbers_are_not_known),
		cmocka_unit_test(what_a_guest_says_of_itself),
		cmocka_unit_test(counters_of_kvm_add_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
