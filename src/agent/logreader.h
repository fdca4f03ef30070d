#pragma once
/*
 * agent/logreader.h - reads a log as its instance wrote it: over rotations, from any place, and on
 * as it grows.
 *
 * Used by agent/logfeed (logs and attach).  A cursor is the position of the next byte together with
 * whether a line has begun before it: who gives it back goes on with exactly that byte.
 * logreader_open() searches and runs on a worker; the rest is quick and belongs to the loop.
 */
#include <stdbool.h>
#include <stdint.h>

#include "agent/logchain.h"
#include "base/strbuf.h"

struct error;

enum { LOGREADER_CURSOR_SIZE = 48, LOGREADER_ALL_STREAMS = 1 << 1 | 1 << 2 };

struct logreader_range {
	int64_t tail;               /* -1: all lines */
	int64_t since_ns, until_ns; /* 0: no limit */
	bool has_cursor;            /* then `position` and `inside` are where to go on */
	uint64_t position;
	unsigned int inside;
	unsigned int streams; /* bits 1 << enum logline_stream; 0: all */
	bool timestamps;
};

struct logreader {
	char *path;
	struct logreader_range range;
	struct logchain chain;
	uint64_t position;   /* of the next byte that is read from the files */
	unsigned int inside; /* streams in the middle of a line, as bits */
	struct strbuf text;  /* read, and not given out yet */
	uint64_t dropped;    /* bytes that were rotated away unread; the user clears it */
	bool over;           /* a line behind `until` was met */
};

void logreader_init(struct logreader *reader, const char *path,
		    const struct logreader_range *range);

/* Opens the files and finds the place. */
void logreader_open(struct logreader *reader);

/* Opens what a rotation has made, before somebody removes it all. */
void logreader_catch_up(struct logreader *reader);

/* Reads on.  False: everything that is there was read. */
bool logreader_fill(struct logreader *reader);

/*
 * Appends lines of one stream, at most `room` bytes, to `out`.  1 and the stream; 0: nothing more
 * without logreader_fill(); -ENOBUFS: more is there, but no room.
 */
int logreader_take(struct logreader *reader, size_t room, enum logline_stream *ret_stream,
		   struct strbuf *out);

/* "UID-POSITION-FLAGS", for the place behind what was taken.  `uid` names the log. */
void logreader_cursor(const struct logreader *reader, const char *uid,
		      char ret[LOGREADER_CURSOR_SIZE]);

/* Into `range`.  -EINVAL with words, also when it is of another log. */
int logreader_parse_cursor(const char *text, const char *uid, struct logreader_range *range,
			   struct error *err);

void logreader_done(struct logreader *reader);
