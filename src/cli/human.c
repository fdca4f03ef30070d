#include "cli/human.h"

#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"

void human_bytes(uint64_t bytes, char ret[HUMAN_SIZE])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double) bytes;
	size_t unit = 0;

	/* 999.5 would be printed as "1000". */
	while (value >= 999.5 && unit + 1 < ARRAY_COUNT(units)) {
		value /= 1024;
		unit++;
	}
	if (unit == 0 || value >= 99.95)
		snprintf(ret, HUMAN_SIZE, "%.0f %s", value, units[unit]);
	else
		snprintf(ret, HUMAN_SIZE, "%.1f %s", value, units[unit]);
}

void human_duration(int64_t ms, char ret[HUMAN_SIZE])
{
	static const struct {
		int64_t seconds;
		char letter;
	} units[] = {
		{ 365 * 86400, 'y' }, { 86400, 'd' }, { 3600, 'h' }, { 60, 'm' }, { 1, 's' }
	};
	int64_t seconds = ms < 0 ? 0 : ms / 1000;

	for (size_t i = 0; i + 1 < ARRAY_COUNT(units); i++) {
		int64_t big = seconds / units[i].seconds;
		int small = (int) (seconds % units[i].seconds / units[i + 1].seconds);

		if (big == 0)
			continue;
		if (small == 0 || big >= 10)
			snprintf(ret, HUMAN_SIZE, "%lld%c", (long long) big, units[i].letter);
		else
			snprintf(ret, HUMAN_SIZE, "%lld%c %d%c", (long long) big, units[i].letter,
				 small, units[i + 1].letter);
		return;
	}
	snprintf(ret, HUMAN_SIZE, "%llds", (long long) seconds);
}

void human_time(const char *rfc3339, char ret[HUMAN_SIZE])
{
	int64_t ms = 0;
	time_t seconds;
	struct tm tm;

	if (!rfc3339 || clock_parse_rfc3339(rfc3339, &ms) < 0) {
		snprintf(ret, HUMAN_SIZE, "-");
		return;
	}
	seconds = (time_t) (ms / 1000);
	localtime_r(&seconds, &tm);
	strftime(ret, HUMAN_SIZE, "%Y-%m-%d %H:%M:%S", &tm);
}

/* Bytes of the UTF-8 character at `p`, 0 when it is none or must not reach a terminal. */
static size_t human_character(const unsigned char *p)
{
	size_t size = *p < 0x80                 ? 1
		      : *p >= 0xc2 && *p < 0xe0 ? 2
		      : *p >= 0xe0 && *p < 0xf0 ? 3
		      : *p >= 0xf0 && *p < 0xf5 ? 4
						: 0;

	if (size == 1)
		return *p >= 0x20 && *p != 0x7f;
	for (size_t i = 1; i < size; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if (size == 2 && *p == 0xc2 && p[1] < 0xa0) /* C1: 0x9b begins an escape sequence */
		return 0;
	return size;
}

void human_text(struct strbuf *out, const char *text)
{
	for (const unsigned char *p = (const unsigned char *) text; p && *p;) {
		size_t size = human_character(p);

		if (size == 0)
			strbuf_puts(out, "?");
		else
			strbuf_append(out, p, size);
		p += size ? size : 1;
	}
}

size_t human_width(const char *text)
{
	size_t width = 0;

	for (; *text; text++)
		width += ((unsigned char) *text & 0xc0) != 0x80;
	return width;
}
