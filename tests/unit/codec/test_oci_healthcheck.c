#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/json.h"
#include "base/strv.h"
#include "codec/oci_healthcheck.h"

static int decode(const char *text, struct oci_healthcheck *ret, struct error *err)
{
	AUTO(json_decref) json_t *object = json_loads(text, 0, NULL);

	assert_non_null(object);
	return oci_healthcheck_decode(object, ret, err);
}

static void test_docker_spells_it_like_this(void **state)
{
	struct oci_healthcheck check = {}, again = {};

	(void) state;
	assert_int_equal(decode("{\"Test\": [\"CMD-SHELL\", \"curl -f http://x\"], \"Interval\": "
				"5000000000, \"Timeout\": 1500000000, \"StartPeriod\": 1, "
				"\"StartInterval\": 250000000, \"Retries\": 4}",
				&check, NULL),
			 0);
	assert_int_equal(check.kind, OCI_HEALTHCHECK_COMMAND);
	assert_int_equal(strv_count(check.command), 3);
	assert_string_equal(check.command[2], "curl -f http://x");
	assert_int_equal(check.interval_ms, 5000);
	assert_int_equal(check.timeout_ms, 1500);
	assert_int_equal(check.start_period_ms, 0);
	assert_int_equal(check.start_interval_ms, 250);
	assert_int_equal(check.retries, 4);

	AUTO(json_decref) json_t *json = oci_healthcheck_json(&check);
	assert_int_equal(oci_healthcheck_read(json, &again, NULL), 0);
	assert_int_equal(again.kind, OCI_HEALTHCHECK_COMMAND);
	assert_true(strv_equal(check.command, again.command));
	assert_int_equal(again.interval_ms, 5000);
	assert_int_equal(again.start_interval_ms, 250);
	oci_healthcheck_done(&check);
	oci_healthcheck_done(&again);
}

static void test_other_kinds(void **state)
{
	struct oci_healthcheck check = {};

	(void) state;
	assert_int_equal(decode("{\"Test\": [\"CMD\", \"/check\", \"-v\"]}", &check, NULL), 0);
	assert_int_equal(strv_count(check.command), 2);
	oci_healthcheck_done(&check);
	assert_int_equal(decode("{\"Test\": [\"NONE\"]}", &check, NULL), 0);
	assert_int_equal(check.kind, OCI_HEALTHCHECK_NONE);
	assert_int_equal(decode("{\"Test\": [], \"Interval\": -5}", &check, NULL), 0);
	assert_int_equal(check.kind, OCI_HEALTHCHECK_ABSENT);
	assert_null(oci_healthcheck_json(&check));
	assert_int_equal(decode("{\"Interval\": 9223372036854775807}", &check, NULL), 0);
	assert_int_equal(check.interval_ms, 0);
}

static void test_nonsense_is_refused(void **state)
{
	static const char *const bad[] = { "{\"Test\": [\"SHELL\", \"x\"]}",
					   "{\"Test\": [\"CMD\"]}", "{\"Test\": \"CMD x\"}",
					   "{\"Test\": [3]}", "{\"Interval\": \"5s\"}" };

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct oci_healthcheck check = {};
		struct error err = {};

		assert_true(decode(bad[i], &check, &err) < 0);
		assert_non_null(strstr(err.msg, "Healthcheck"));
		assert_null(check.command);
	}
}

static void test_sizes_are_bounded(void **state)
{
	AUTO(json_decref) json_t *object = json_object();
	json_t *test = json_array();
	struct oci_healthcheck check = {};

	(void) state;
	json_object_set_new(object, "Test", test);
	json_array_append_new(test, json_string("CMD"));
	for (int i = 0; i < 1000; i++)
		json_array_append_new(test, json_string("word"));
	assert_int_equal(oci_healthcheck_decode(object, &check, NULL), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_docker_spells_it_like_this),
		cmocka_unit_test(test_other_kinds),
		cmocka_unit_test(test_nonsense_is_refused),
		cmocka_unit_test(test_sizes_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
