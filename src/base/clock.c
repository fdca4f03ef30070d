#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static int64_t system_realtime_ms(struct clock *clock)
{
	struct timespec now;

	(void) clock;
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static uint64_t system_monotonic_us(struct clock *clock)
{
	struct timespec now;

	(void) clock;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
}

static void system_fill(struct rng *rng, void *data, size_t size)
{
	uint8_t *p = data;

	(void) rng;
	while (size > 0) {
		ssize_t n = getrandom(p, size, 0);
		if (n < 0 && errno != EINTR)
			abort();
		if (n > 0) {
			p += n;
			size -= (size_t) n;
		}
	}
}

struct clock *clock_system(void)
{
	static struct clock clock = { system_realtime_ms, system_monotonic_us };

	return &clock;
}

struct rng *rng_system(void)
{
	static struct rng rng = { system_fill };

	return &rng;
}

void clock_format_rfc3339(int64_t realtime_ms, char ret[CLOCK_RFC3339_SIZE])
{
	time_t seconds = realtime_ms / 1000;
	struct tm tm;

	ret[0] = '\0';
	if (realtime_ms <= 0 || !gmtime_r(&seconds, &tm) || tm.tm_year > 8099)
		return;
	size_t n = strftime(ret, CLOCK_RFC3339_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(ret + n, CLOCK_RFC3339_SIZE - n, ".%03dZ", (int) (realtime_ms % 1000));
}

/* timegm() would read the machine's time zone first, a file and a page of heap, to do without it.
 */
static int64_t seconds_of(const struct tm *tm)
{
	/* Years begin in March here, so that the leap day is a year's last; 400 years keep them
	 * above 0. */
	int64_t month = (tm->tm_mon + 10) % 12, year = 2300 + tm->tm_year - (month >= 10);
	int64_t days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 +
		       tm->tm_mday - 1 - 865565;

	return ((days * 24 + tm->tm_hour) * 60 + tm->tm_min) * 60 + tm->tm_sec;
}

int clock_parse_rfc3339(const char *text, int64_t *ret_realtime_ms)
{
	struct tm tm = {};
	int64_t ms = 0;
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

	if (!rest)
		return -EINVAL;
	if (*rest == '.') {
		int scale = 100;

		for (rest++; *rest >= '0' && *rest <= '9'; rest++, scale /= 10)
			ms += (*rest - '0') * scale;
	}
	if (strcmp(rest, "Z") != 0)
		return -EINVAL;
	*ret_realtime_ms = seconds_of(&tm) * 1000 + ms;
	return 0;
}

void rng_uid(struct rng *rng, char ret[UID_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	uint8_t bytes[(UID_SIZE - 1) / 2];

	rng->fill(rng, bytes, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++) {
		ret[2 * i] = digits[bytes[i] >> 4];
		ret[2 * i + 1] = digits[bytes[i] & 15];
	}
	ret[UID_SIZE - 1] = '\0';
}
