#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

static void writes_and_reads_times(void **state)
{
	char text[CLOCK_RFC3339_SIZE];
	int64_t ms = -1;

	(void) state;
	clock_format_rfc3339(1795138200123, text);
	assert_string_equal(text, "2026-11-20T01:30:00.123Z");
	assert_int_equal(clock_parse_rfc3339(text, &ms), 0);
	assert_true(ms == 1795138200123);
	clock_format_rfc3339(0, text);
	assert_string_equal(text, "");
	clock_format_rfc3339(-5, text);
	assert_string_equal(text, "");
	clock_format_rfc3339(INT64_MAX, text);
	assert_string_equal(text, "");
}

static void reads_other_fractions(void **state)
{
	int64_t ms = -1;

	(void) state;
	assert_int_equal(clock_parse_rfc3339("1970-01-01T00:00:01Z", &ms), 0);
	assert_int_equal(ms, 1000);
	assert_int_equal(clock_parse_rfc3339("1970-01-01T00:00:01.5Z", &ms), 0);
	assert_int_equal(ms, 1500);
	assert_int_equal(clock_parse_rfc3339("1970-01-01T00:00:01.123456789Z", &ms), 0);
	assert_int_equal(ms, 1123);
}

static void agrees_with_the_library(void **state)
{
	(void) state;
	for (int64_t seconds = -62167219200; seconds < 253402300800; seconds += 86400 * 9 + 12345) {
		time_t time = (time_t) seconds;
		struct tm tm;
		char text[40], formatted[CLOCK_RFC3339_SIZE];
		int64_t ms = 0;

		assert_non_null(gmtime_r(&time, &tm));
		snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900,
			 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
		assert_int_equal(clock_parse_rfc3339(text, &ms), 0);
		assert_int_equal(ms, seconds * 1000);
		if (seconds <= 0)
			continue;
		strcpy(text + strlen("yyyy-mm-ddThh:mm:ss"), ".007Z");
		clock_format_rfc3339(ms + 7, formatted);
		assert_string_equal(formatted, text);
	}
}

static void reads_other_zones(void **state)
{
	int64_t ms = -1;

	(void) state;
	assert_int_equal(clock_parse_rfc3339("2026-11-20T03:30:00.123+02:00", &ms), 0);
	assert_true(ms == 1795138200123);
	assert_int_equal(clock_parse_rfc3339("2026-11-19T16:00:00.123-09:30", &ms), 0);
	assert_true(ms == 1795138200123);
	assert_int_equal(clock_parse_rfc3339("2026-11-20T01:30:00.123-00:00", &ms), 0);
	assert_true(ms == 1795138200123);
}

static void refuses_nonsense(void **state)
{
	static const char *const bad[] = { "",
					   "yesterday",
					   "2026-11-20",
					   "2026-11-20T01:30:00",
					   "2026-11-20T01:30:00+0200",
					   "2026-11-20T01:30:00+24:00",
					   "2026-11-20T01:30:00+02:60",
					   "2026-11-20T01:30:00+02:00x",
					   "2026-11-20T01:30:00 02:00",
					   "2026-11-20T01:30:00Zx",
					   "2026-13-20T01:30:00Z",
					   "2026-11-20T24:30:00Z",
					   "26-11-20T01:30:00Z",
					   "2026-11-20T 1:30:00Z" };
	int64_t ms = 7;

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(clock_parse_rfc3339(bad[i], &ms), -EINVAL);
	assert_int_equal(ms, 7);
}

static void fill_count(struct rng *rng, void *data, size_t size)
{
	uint8_t *bytes = data;

	(void) rng;
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t) (i * 17);
}

static void identities(void **state)
{
	struct rng rng = { fill_count };
	char uid[UID_SIZE], other[UID_SIZE];

	(void) state;
	rng_uid(&rng, uid);
	assert_string_equal(uid, "00112233445566778899aabbccddeeff");
	rng_uid(rng_system(), uid);
	rng_uid(rng_system(), other);
	assert_int_equal(strlen(uid), 32);
	assert_string_not_equal(uid, other);
}

static void real_time_goes_on(void **state)
{
	uint64_t first = clock_monotonic_us(clock_system());

	(void) state;
	assert_true(clock_monotonic_us(clock_system()) >= first);
	assert_true(clock_realtime_ms(clock_system()) > 1600000000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_and_reads_times),  cmocka_unit_test(reads_other_fractions),
		cmocka_unit_test(agrees_with_the_library), cmocka_unit_test(reads_other_zones),
		cmocka_unit_test(refuses_nonsense),        cmocka_unit_test(identities),
		cmocka_unit_test(real_time_goes_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
