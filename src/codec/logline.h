#pragma once
/*
 * codec/logline.h - one line of an instance's log file, the format that CRI made common:
 *
 *	2026-11-21T01:49:34.123456789Z stdout F text of a whole line
 *	2026-11-21T01:49:35.000000001Z stderr P a piece without its line end
 *
 * P: the text goes on with the next line of the same stream.  F: here a line ended.  The keeper
 * writes what it has read at once, so a crash loses no piece and needs no memory per line.
 *
 * A log is one long string of bytes cut into files: each begins with a head that says the position
 * of the file's first byte in the whole, so that a position stays true when files are renamed.
 * Used by keeper/ (writes) and agent/ (reads).  Pure functions.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	LOGLINE_TEXT_MAX = 16 * 1024, /* longer pieces are never written */
	LOGLINE_PREFIX_SIZE = 30 + 1 + 6 + 1 + 1 + 1,
	LOGLINE_MAX = LOGLINE_PREFIX_SIZE + LOGLINE_TEXT_MAX + 1,
	LOGLINE_TIME_SIZE = 31, /* with the NUL */
	LOGLINE_HEAD_SIZE = 10 + 20 + 1,
	LOGLINE_FLAG_OFFSET = 38, /* where P or F stands in a line */
};

enum logline_stream { LOGLINE_STDOUT = 1, LOGLINE_STDERR = 2 };

struct logline {
	int64_t time_ns; /* since 1970 UTC */
	enum logline_stream stream;
	bool partial;
	const char *text; /* borrowed from the parsed line, without the line end */
	size_t text_size;
};

/* Everything before the text; `buffer` holds LOGLINE_PREFIX_SIZE bytes, no NUL is written. */
void logline_write_prefix(char *buffer, int64_t time_ns, enum logline_stream stream, bool partial);

/* Parses one line without its '\n'.  0 or -EBADMSG. */
int logline_parse(const char *line, size_t size, struct logline *ret);

/* The time as written in the line. */
void logline_format_time(int64_t time_ns, char ret[LOGLINE_TIME_SIZE]);

/* The first line of a file; `buffer` holds LOGLINE_HEAD_SIZE bytes, no NUL is written. */
void logline_write_head(char *buffer, uint64_t position);

/* 0, or -EBADMSG when the bytes do not begin with a head. */
int logline_parse_head(const char *data, size_t size, uint64_t *ret_position);
