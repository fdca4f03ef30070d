#include "codec/oci_state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"

static void test_round_trip(void **test_state)
{
	AUTO(oci_state_free) struct oci_state *state = mem_new0(struct oci_state);
	AUTO(oci_state_free) struct oci_state *again = NULL;
	AUTO(free) char *text = NULL;

	(void) test_state;
	state->version = mem_strdup("1.0.2");
	state->id = mem_strdup("x");
	state->bundle = mem_strdup("/b");
	state->cgroup = mem_strdup("/c");
	state->pid = 77;
	state->start_time = 123456789012ULL;
	state->own_pid_ns = true;
	state->created_ms = 1795000000123;
	state->annotations = json_pack("{s:s}", "k", "v");
	text = oci_state_encode(state);
	assert_int_equal(oci_state_decode(text, strlen(text), &again, NULL), 0);
	assert_string_equal(again->id, "x");
	assert_string_equal(again->cgroup, "/c");
	assert_int_equal(again->pid, 77);
	assert_true(again->start_time == state->start_time && again->own_pid_ns);
	assert_true(again->created_ms == state->created_ms);
	assert_true(json_equal(again->annotations, state->annotations));
}

static void test_public(void **test_state)
{
	struct oci_state state = {
		.version = (char *) "1.0.2", .id = (char *) "x", .bundle = (char *) "/b", .pid = 5
	};
	AUTO(json_decref) json_t *running = oci_state_public(&state, OCI_STATUS_RUNNING);
	AUTO(json_decref) json_t *stopped = oci_state_public(&state, OCI_STATUS_STOPPED);

	(void) test_state;
	assert_string_equal(json_string_value(json_object_get(running, "status")), "running");
	assert_int_equal(json_integer_value(json_object_get(running, "pid")), 5);
	assert_int_equal(json_integer_value(json_object_get(stopped, "pid")), 0);
	assert_true(json_is_object(json_object_get(running, "annotations")));
}

static void test_damaged(void **test_state)
{
	static const char *const texts[] = {
		"",
		"{}",
		"[]",
		"{\"id\":1}",
		"{\"version\":\"1\",\"id\":\"x\"}",
		"{\"version\":\"1\",\"id\":\"x\",\"bundle\":\"b\",\"pid\":-4}",
		"{\"version\":\"1\",\"id\":\"x\",\"bundle\":\"b\",\"z\":1}"
	};

	(void) test_state;
	for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
		struct oci_state *state = NULL;
		struct error err = {};

		assert_true(oci_state_decode(texts[i], strlen(texts[i]), &state, &err) < 0);
		assert_null(state);
		assert_true(err.msg[0] != '\0');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_public),
		cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
