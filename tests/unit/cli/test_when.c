#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/when.h"

static const int64_t now_ms = INT64_C(1795224600000); /* 2026-11-21T01:30:00Z */

static void expect(const char *text, int64_t want)
{
	struct error err = {};
	int64_t got = -1;

	if (when_parse(text, "--since", now_ms, &got, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(got, want);
}

static void reads_durations(void **state)
{
	(void) state;
	expect("90s", now_ms - 90000);
	expect("10m", now_ms - 600000);
	expect("1h30m", now_ms - 5400000);
	expect("2d", now_ms - 172800000);
	expect("999999999d", 1);
}

static void reads_dates(void **state)
{
	(void) state;
	expect("2026-11-21T01:30:00Z", now_ms);
	expect("2026-11-21T03:30:00+02:00", now_ms);
	expect("2026-11-21", now_ms - 5400000);
	expect("1795224600", now_ms);
}

static void refuses_the_rest(void **state)
{
	static const char *const texts[] = {
		"",           "m",       "10x", "yesterday", "-5m",
		"2026-13-01", "10m ago", "0s",  "1e9",       "99999999999999999999"
	};
	int64_t got = 7;

	(void) state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_equal(when_parse(texts[i], "--since", now_ms, &got, NULL), -EINVAL);
	assert_int_equal(got, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_durations),
		cmocka_unit_test(reads_dates),
		cmocka_unit_test(refuses_the_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
