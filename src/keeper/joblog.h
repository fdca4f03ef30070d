#pragma once
/*
 * keeper/joblog.h - the log file of one job: bounded, rotated once (LOG -> LOG.1), never torn.
 *
 * Used by keeper/ only.  Errors of the disk are told once and output is dropped until it works
 * again: a full disk must not stop an instance.  After a crash a cut last line is closed first.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/logline.h"

enum { JOBLOG_MAX_DEFAULT_BYTES = 16 * 1024 * 1024, JOBLOG_BUFFER_SIZE = 2 * LOGLINE_MAX };

struct joblog {
	char *path;
	int fd; /* -1: closed, opened by the next write */
	uint64_t size_bytes, max_bytes;
	bool torn;    /* the file does not end with a line end */
	bool failing; /* the last write failed and was told */
};

/* Takes `path` over by copying; nothing is opened yet.  A `max_bytes` of 0 is the default. */
void joblog_init(struct joblog *log, const char *path, uint64_t max_bytes);

/*
 * Writes what a process wrote: a line per line, the last one partial unless it ends with '\n'.
 * `buffer` of JOBLOG_BUFFER_SIZE is scratch; `size` is at most LOGLINE_TEXT_MAX.
 */
void joblog_write(struct joblog *log, enum logline_stream stream, int64_t time_ns, const char *text,
		  size_t size, char *buffer);

void joblog_close(struct joblog *log);
void joblog_done(struct joblog *log);
