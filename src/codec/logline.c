#include "codec/logline.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { NS_PER_S = 1000000000 };

void logline_format_time(int64_t time_ns, char ret[LOGLINE_TIME_SIZE])
{
	time_t seconds = (time_t) (time_ns / NS_PER_S);
	unsigned int ns = (unsigned int) (time_ns % NS_PER_S);
	struct tm tm = {};

	gmtime_r(&seconds, &tm);
	/* A clock before 1970 or after 9999 would break the fixed width. */
	if (time_ns < 0 || tm.tm_year + 1900 > 9999) {
		memcpy(ret, "1970-01-01T00:00:00.000000000Z", LOGLINE_TIME_SIZE);
		return;
	}
	char text[64];
	snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%09uZ", tm.tm_year + 1900,
		 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, ns);
	memcpy(ret, text, LOGLINE_TIME_SIZE - 1);
	ret[LOGLINE_TIME_SIZE - 1] = '\0';
}

void logline_write_prefix(char *buffer, int64_t time_ns, enum logline_stream stream, bool partial)
{
	char time[LOGLINE_TIME_SIZE];

	logline_format_time(time_ns, time);
	memcpy(buffer, time, 30);
	memcpy(buffer + 30, stream == LOGLINE_STDERR ? " stderr " : " stdout ", 8);
	buffer[38] = partial ? 'P' : 'F';
	buffer[39] = ' ';
}

static int parse_digits(const char *p, size_t count, int64_t max, int64_t *ret)
{
	int64_t value = 0;

	for (size_t i = 0; i < count; i++) {
		if (p[i] < '0' || p[i] > '9')
			return -EBADMSG;
		value = value * 10 + (p[i] - '0');
	}
	if (value > max)
		return -EBADMSG;
	*ret = value;
	return 0;
}

static int parse_time(const char *p, int64_t *ret_ns)
{
	int64_t year, month, day, hour, minute, second, ns;

	if (parse_digits(p, 4, 9999, &year) < 0 || p[4] != '-' ||
	    parse_digits(p + 5, 2, 12, &month) < 0 || p[7] != '-' ||
	    parse_digits(p + 8, 2, 31, &day) < 0 || p[10] != 'T' ||
	    parse_digits(p + 11, 2, 23, &hour) < 0 || p[13] != ':' ||
	    parse_digits(p + 14, 2, 59, &minute) < 0 || p[16] != ':' ||
	    parse_digits(p + 17, 2, 60, &second) < 0 || p[19] != '.' ||
	    parse_digits(p + 20, 9, NS_PER_S - 1, &ns) < 0 || p[29] != 'Z')
		return -EBADMSG;
	struct tm tm = { .tm_year = (int) year - 1900,
			 .tm_mon = (int) month - 1,
			 .tm_mday = (int) day,
			 .tm_hour = (int) hour,
			 .tm_min = (int) minute,
			 .tm_sec = (int) second };
	int64_t seconds = timegm(&tm);
	/* What does not fit into 64 bits of nanoseconds was not written by us. */
	if (year < 1970 || year > 2261)
		return -EBADMSG;
	*ret_ns = seconds * NS_PER_S + ns;
	return 0;
}

int logline_parse(const char *line, size_t size, struct logline *ret)
{
	struct logline parsed = {};

	if (size < LOGLINE_PREFIX_SIZE || size > LOGLINE_MAX ||
	    parse_time(line, &parsed.time_ns) < 0)
		return -EBADMSG;
	if (memcmp(line + 30, " stdout ", 8) == 0)
		parsed.stream = LOGLINE_STDOUT;
	else if (memcmp(line + 30, " stderr ", 8) == 0)
		parsed.stream = LOGLINE_STDERR;
	else
		return -EBADMSG;
	if ((line[38] != 'P' && line[38] != 'F') || line[39] != ' ')
		return -EBADMSG;
	parsed.partial = line[38] == 'P';
	parsed.text = line + LOGLINE_PREFIX_SIZE;
	parsed.text_size = size - LOGLINE_PREFIX_SIZE;
	*ret = parsed;
	return 0;
}

static const char head_word[] = "brume-log ";

void logline_write_head(char *buffer, uint64_t position)
{
	char text[LOGLINE_HEAD_SIZE + 1];

	snprintf(text, sizeof(text), "%s%020llu\n", head_word, (unsigned long long) position);
	memcpy(buffer, text, LOGLINE_HEAD_SIZE);
}

int logline_parse_head(const char *data, size_t size, uint64_t *ret_position)
{
	size_t word = sizeof(head_word) - 1;
	int64_t high, low;

	if (size < LOGLINE_HEAD_SIZE || memcmp(data, head_word, word) != 0 ||
	    data[LOGLINE_HEAD_SIZE - 1] != '\n')
		return -EBADMSG;
	/* Two halves: one number of 20 digits need not fit. */
	if (parse_digits(data + word, 10, INT64_MAX, &high) < 0 ||
	    parse_digits(data + word + 10, 10, INT64_MAX, &low) < 0 || high >= 900000000)
		return -EBADMSG;
	*ret_position = (uint64_t) high * 10000000000 + (uint64_t) low;
	return 0;
}
