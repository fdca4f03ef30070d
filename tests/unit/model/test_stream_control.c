#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "model/stream_control.h"

static int decode(const char *text, struct stream_control *ret, struct error *err)
{
	AUTO(json_decref) json_t *message = NULL;

	assert_int_equal(json_parse(text, strlen(text), 1000, &message, NULL), 0);
	return stream_control_decode(message, ret, err);
}

static void each_alone_and_all_together(void **state)
{
	struct stream_control got;

	(void) state;
	assert_int_equal(decode("{}", &got, NULL), 0);
	assert_true(!got.width && !got.height && !got.signal && !got.eof && !got.detach);
	assert_int_equal(decode("{\"resize\":{\"width\":80,\"height\":24}}", &got, NULL), 0);
	assert_int_equal(got.width, 80);
	assert_int_equal(got.height, 24);
	assert_int_equal(
		decode("{\"signal\":\"SIGTERM\",\"eof\":true,\"detach\":true}", &got, NULL), 0);
	assert_int_equal(got.signal, SIGTERM);
	assert_true(got.eof && got.detach);
	assert_int_equal(got.width, 0);
}

static void what_is_wrong_is_named(void **state)
{
	static const struct {
		const char *text, *words;
	} rows[] = {
		{ "{\"resize\":{\"width\":80}}", "needs a width and a height" },
		{ "{\"resize\":{\"width\":0,\"height\":24}}", "needs a width and a height" },
		{ "{\"resize\":{\"width\":65536,\"height\":24}}", "control message.resize.width" },
		{ "{\"resize\":{\"width\":80,\"height\":24,\"depth\":1}}", "depth" },
		{ "{\"resize\":[80,24]}", "control message.resize" },
		{ "{\"signal\":\"KILLL\"}", "'KILLL' is not a signal" },
		{ "{\"signal\":\"\"}", "'' is not a signal" },
		{ "{\"signal\":9}", "control message.signal" },
		{ "{\"eof\":1}", "control message.eof" },
		{ "{\"end\":true}", "end" },
		{ "[]", "control message" },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct stream_control got = { .signal = 7 };
		struct error err = {};

		assert_int_equal(decode(rows[i].text, &got, &err), -EINVAL);
		if (!strstr(err.msg, rows[i].words))
			fail_msg("%s: %s", rows[i].text, err.msg);
		assert_int_equal(got.signal, 7);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_alone_and_all_together),
		cmocka_unit_test(what_is_wrong_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
