#include "codec/oci_update.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

static json_t *parse(const char *text)
{
	json_t *value = json_loads(text, 0, NULL);

	assert_non_null(value);
	return value;
}

static void expect_merge(const char *current, const char *change, const char *expected)
{
	AUTO(json_decref) json_t *a = parse(current);
	AUTO(json_decref) json_t *b = parse(change);
	AUTO(json_decref) json_t *want = parse(expected);
	AUTO(json_decref) json_t *merged = oci_update_merge(a, b);
	AUTO(json_decref) json_t *again = parse(current);

	assert_true(json_equal(merged, want));
	assert_true(json_equal(a, again));
}

static void test_merge(void **state)
{
	(void) state;
	expect_merge("{}", "{\"memory\":{\"limit\":1}}", "{\"memory\":{\"limit\":1}}");
	expect_merge("{\"memory\":{\"limit\":1,\"swap\":2},\"pids\":{\"limit\":3}}",
		     "{\"memory\":{\"limit\":5}}",
		     "{\"memory\":{\"limit\":5,\"swap\":2},\"pids\":{\"limit\":3}}");
	expect_merge("{\"blockIO\":{\"t\":[{\"major\":8,\"minor\":0,\"rate\":1},"
		     "{\"major\":8,\"minor\":1,\"rate\":1}]}}",
		     "{\"blockIO\":{\"t\":[{\"major\":8,\"minor\":1,\"rate\":9}]}}",
		     "{\"blockIO\":{\"t\":[{\"major\":8,\"minor\":1,\"rate\":9},"
		     "{\"major\":8,\"minor\":0,\"rate\":1}]}}");
	expect_merge("{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":1}]}",
		     "{\"hugepageLimits\":[{\"pageSize\":\"1GB\",\"limit\":2}]}",
		     "{\"hugepageLimits\":[{\"pageSize\":\"1GB\",\"limit\":2},"
		     "{\"pageSize\":\"2MB\",\"limit\":1}]}");
}

static void test_zero_is_as_it_is(void **state)
{
	static const char text[] = "{\"memory\":{\"limit\":0,\"swap\":null,\"reservation\":7},"
				   "\"cpu\":{\"quota\":0,\"cpus\":\"\",\"idle\":0,\"burst\":0},"
				   "\"pids\":{\"limit\":0},\"network\":null}";
	AUTO(json_decref) json_t *change = NULL;
	AUTO(json_decref)
	json_t *want = parse("{\"memory\":{\"reservation\":7},\"cpu\":{\"idle\":0,\"burst\":0},"
			     "\"pids\":{}}");

	(void) state;
	assert_int_equal(oci_update_decode(text, strlen(text), &change, NULL), 0);
	assert_true(json_equal(change, want));
}

static void test_bad(void **state)
{
	static const char *const bad[] = { "",
					   "[]",
					   "1",
					   "{\"memory\":7}",
					   "{\"cpu\":{\"idle\":2}}",
					   "{\"pids\":{\"limit\":\"many\"}}",
					   "{\"unified\":{\"a\":1}}" };

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		json_t *change = NULL;
		struct error err = {};

		assert_true(oci_update_decode(bad[i], strlen(bad[i]), &change, &err) < 0);
		assert_null(change);
		assert_true(err.msg[0]);
	}
}

static void test_from_config(void **state)
{
	static const char with[] = "{\"linux\":{\"resources\":{\"pids\":{\"limit\":4}}}}";
	AUTO(json_decref) json_t *some = NULL;
	AUTO(json_decref) json_t *none = NULL;
	AUTO(oci_spec_free) struct oci_spec *spec = NULL;

	(void) state;
	assert_int_equal(oci_update_from_config(with, strlen(with), &some, NULL), 0);
	assert_int_equal(oci_update_resources(some, &spec, NULL), 0);
	assert_int_equal(spec->linux_.resources.pids_limit.value, 4);
	assert_int_equal(oci_update_from_config("{}", 2, &none, NULL), 0);
	assert_int_equal(json_object_size(none), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_zero_is_as_it_is),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_from_config),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
