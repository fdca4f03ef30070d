#include "cli/when.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"

enum { MS = 1000, NUMBER_MAX = 1000000000 };

/* 0 when it is no duration. */
static int64_t parse_duration(const char *text)
{
	static const struct {
		char unit;
		int64_t ms;
	} units[] = { { 's', MS }, { 'm', 60 * MS }, { 'h', 3600 * MS }, { 'd', 86400 * MS } };
	int64_t total = 0;

	while (*text) {
		char *end;
		long number = isdigit((unsigned char) *text) ? strtol(text, &end, 10) : -1;
		int64_t unit = 0;

		if (number < 0 || number > NUMBER_MAX)
			return 0;
		for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
			if (*end == units[i].unit)
				unit = units[i].ms;
		if (unit == 0)
			return 0;
		total += number * unit;
		text = end + 1;
	}
	return total;
}

static int parse_date(const char *text, int64_t *ret_ms)
{
	char full[CLOCK_RFC3339_SIZE];
	size_t size = strlen(text);

	if (clock_parse_rfc3339(text, ret_ms) == 0)
		return 0;
	if (size != strlen("2026-11-21"))
		return -EINVAL;
	snprintf(full, sizeof(full), "%sT00:00:00Z", text);
	return clock_parse_rfc3339(full, ret_ms);
}

int when_parse(const char *text, const char *what, int64_t now_ms, int64_t *ret_ms,
	       struct error *err)
{
	int64_t ago = parse_duration(text);
	char *end;

	if (ago > 0) {
		*ret_ms = ago < now_ms ? now_ms - ago : 1;
		return 0;
	}
	if (parse_date(text, ret_ms) == 0)
		return 0;
	errno = 0;
	long long seconds = strtoll(text, &end, 10);
	if (!isdigit((unsigned char) text[0]) || *end || errno || seconds < 1 ||
	    seconds > INT64_C(7000000000))
		return error_say(err, -EINVAL,
				 "%s: '%.64s' is neither a time like 2026-11-21T01:30:00Z nor a "
				 "duration like 10m",
				 what, text);
	*ret_ms = seconds * MS;
	return 0;
}
