#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "model/stdio_options.h"

static int read_text(const char *text, struct stdio_options *ret, struct error *err)
{
	AUTO(json_decref) json_t *object = NULL;
	struct json_reader in = { .err = err, .where = "" };

	assert_int_equal(json_parse(text, strlen(text), 1000, &object, NULL), 0);
	stdio_options_read(&in, object, ret);
	return json_reader_finish(&in, object);
}

static void reads_what_it_writes(void **state)
{
	struct stdio_options stdio = { true, STDIN_ONCE, UINT64_C(1) << 20, 5 }, got = {};
	AUTO(json_decref) json_t *object = json_object();

	(void) state;
	stdio_options_put(object, &stdio);
	AUTO(free) char *text = json_text(object);
	assert_string_equal(text, "{\"log\":{\"max_bytes\":1048576,\"max_files\":5},"
				  "\"stdin\":\"once\",\"tty\":true}");
	assert_int_equal(read_text(text, &got, NULL), 0);
	assert_true(got.tty);
	assert_int_equal(got.stdin_mode, STDIN_ONCE);
	assert_int_equal(got.log_max_bytes, UINT64_C(1) << 20);
	assert_int_equal(got.log_max_files, 5);
	/* The defaults say nothing. */
	json_object_clear(object);
	stdio_options_put(object, &(struct stdio_options){});
	assert_int_equal(json_object_size(object), 0);
}

static void refuses_the_rest(void **state)
{
	static const char *const texts[][2] = {
		{ "{\"tty\":1}", "tty" },
		{ "{\"stdin\":\"always\"}", "stdin" },
		{ "{\"log\":{\"max_bytes\":65535}}", "log.max_bytes" },
		{ "{\"log\":{\"max_bytes\":1073741825}}", "log.max_bytes" },
		{ "{\"log\":{\"max_files\":1}}", "log.max_files" },
		{ "{\"log\":{\"max_files\":65}}", "log.max_files" },
		{ "{\"log\":{\"max\":65}}", "log" },
		{ "{\"log\":7}", "log" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
		struct stdio_options got = {};
		struct error err = {};

		assert_true(read_text(texts[i][0], &got, &err) < 0);
		assert_non_null(strstr(err.msg, texts[i][1]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_it_writes),
		cmocka_unit_test(refuses_the_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
