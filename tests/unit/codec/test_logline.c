#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "codec/logline.h"

static void writes_what_it_parses(void **state)
{
	char line[LOGLINE_PREFIX_SIZE + 5];
	struct logline parsed;

	(void) state;
	logline_write_prefix(line, 1763689774123456789, LOGLINE_STDERR, true);
	memcpy(line + LOGLINE_PREFIX_SIZE, "hello", 5);
	assert_memory_equal(line, "2025-11-21T01:49:34.123456789Z stderr P hello", sizeof(line));
	assert_int_equal(logline_parse(line, sizeof(line), &parsed), 0);
	assert_int_equal(parsed.time_ns, 1763689774123456789);
	assert_int_equal(parsed.stream, LOGLINE_STDERR);
	assert_true(parsed.partial);
	assert_int_equal(parsed.text_size, 5);
	assert_memory_equal(parsed.text, "hello", 5);
}

static void parses_an_empty_line(void **state)
{
	const char *line = "1970-01-01T00:00:00.000000000Z stdout F ";
	struct logline parsed;

	(void) state;
	assert_int_equal(logline_parse(line, strlen(line), &parsed), 0);
	assert_int_equal(parsed.time_ns, 0);
	assert_false(parsed.partial);
	assert_int_equal(parsed.text_size, 0);
}

static void refuses_what_nobody_wrote(void **state)
{
	static const char *const bad[] = {
		"",
		"1970-01-01T00:00:00.000000000Z stdout F",
		"1970-13-01T00:00:00.000000000Z stdout F x",
		"1970-01-01T24:00:00.000000000Z stdout F x",
		"1970-01-01T00:00:00.00000000xZ stdout F x",
		"1970-01-01 00:00:00.000000000Z stdout F x",
		"1970-01-01T00:00:00.000000000Z stdin  F x",
		"1970-01-01T00:00:00.000000000Z stdout X x",
		"1969-01-01T00:00:00.000000000Z stdout F x",
		"9999-01-01T00:00:00.000000000Z stdout F x",
		"free text of a program that wrote into the log file itself",
	};
	struct logline parsed;

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(logline_parse(bad[i], strlen(bad[i]), &parsed), -EBADMSG);
}

static void keeps_its_width_with_strange_clocks(void **state)
{
	char text[LOGLINE_TIME_SIZE];

	(void) state;
	logline_format_time(-5, text);
	assert_string_equal(text, "1970-01-01T00:00:00.000000000Z");
	logline_format_time(INT64_MAX, text);
	assert_string_equal(text, "2262-04-11T23:47:16.854775807Z");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_what_it_parses),
		cmocka_unit_test(parses_an_empty_line),
		cmocka_unit_test(refuses_what_nobody_wrote),
		cmocka_unit_test(keeps_its_width_with_strange_clocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
