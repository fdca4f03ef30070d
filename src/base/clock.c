#include "base/clock.h"

#include <errno.h>
#include <stdbool.h>
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

/*
 * Dates by hand.  What the C library has for them weighs 60 KB in brume-init, and timegm() reads
 * the machine's time zone first.  Years begin in March here, so that the leap day is a year's last.
 */
enum { DAYS_ERA = 146097, DAYS_TO_1970 = 719468 };

static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
	/* One era more, so that no division is of a negative number. */
	year += 400 - (month <= 2);
	month = (month + 9) % 12;
	return 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 -
	       DAYS_ERA - DAYS_TO_1970;
}

void clock_format_rfc3339(int64_t realtime_ms, char ret[CLOCK_RFC3339_SIZE])
{
	static const int64_t max_ms = INT64_C(253402300800000); /* the year 10000 */
	int64_t seconds = realtime_ms / 1000, days = seconds / 86400 + DAYS_TO_1970;
	int64_t of_era = days % DAYS_ERA;
	int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / (DAYS_ERA - 1)) / 365;
	int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
	int64_t month = (5 * of_year + 2) / 153, day = of_year - (153 * month + 2) / 5 + 1;

	ret[0] = '\0';
	if (realtime_ms <= 0 || realtime_ms >= max_ms)
		return;
	month = month < 10 ? month + 3 : month - 9;
	year += days / DAYS_ERA * 400 + (month <= 2);
	snprintf(ret, CLOCK_RFC3339_SIZE, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ",
		 (unsigned int) year, (unsigned int) month, (unsigned int) day,
		 (unsigned int) (seconds / 3600 % 24), (unsigned int) (seconds / 60 % 60),
		 (unsigned int) (seconds % 60), (unsigned int) (realtime_ms % 1000));
}

/* `count` digits at *at, and `end` behind them, which is not there when it is NUL. */
static bool read_part(const char **at, int count, char end, int64_t min, int64_t max, int64_t *ret)
{
	int64_t value = 0;

	for (int i = 0; i < count; i++, ++*at) {
		if (**at < '0' || **at > '9')
			return false;
		value = value * 10 + **at - '0';
	}
	if (end && *(*at)++ != end)
		return false;
	*ret = value;
	return value >= min && value <= max;
}

/* "Z", "+02:00" or "-09:30": the minutes that the time is ahead of UTC. */
static int parse_zone(const char *text, int64_t *ret_minutes)
{
	int64_t sign = *text == '-' ? -1 : 1, hours, minutes;

	if (strcmp(text, "Z") == 0) {
		*ret_minutes = 0;
		return 0;
	}
	if (*text != '+' && *text != '-')
		return -EINVAL;
	text++;
	if (!read_part(&text, 2, ':', 0, 23, &hours) ||
	    !read_part(&text, 2, '\0', 0, 59, &minutes) || *text)
		return -EINVAL;
	*ret_minutes = sign * (hours * 60 + minutes);
	return 0;
}

int clock_parse_rfc3339(const char *text, int64_t *ret_realtime_ms)
{
	int64_t year, month, day, hour, minute, second, zone, ms = 0;

	if (!read_part(&text, 4, '-', 0, 9999, &year) || !read_part(&text, 2, '-', 1, 12, &month) ||
	    !read_part(&text, 2, 'T', 1, 31, &day) || !read_part(&text, 2, ':', 0, 23, &hour) ||
	    !read_part(&text, 2, ':', 0, 59, &minute) ||
	    !read_part(&text, 2, '\0', 0, 60 /* a leap second */, &second))
		return -EINVAL;
	if (*text == '.') {
		int scale = 100;

		for (text++; *text >= '0' && *text <= '9'; text++, scale /= 10)
			ms += (*text - '0') * scale;
	}
	if (parse_zone(text, &zone) < 0)
		return -EINVAL;
	*ret_realtime_ms =
		(((days_of(year, month, day) * 24 + hour) * 60 + minute - zone) * 60 + second) *
			1000 +
		ms;
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
