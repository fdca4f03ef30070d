#pragma once
/*
 * keeper/joblog.h - the log files of one job: LOG, LOG.1, LOG.2, ..., bounded and never torn.
 *
 * Used by keeper/, and by agent/ for logs of its own.  Each file begins with a head that says its
 * position in the whole log (codec/logline.h).  Errors of the disk are told once and output is
 * dropped until it works again: a full disk must not stop an instance.  After a crash a cut last
 * line is closed first.
 *
 * A line that would make a file too large begins the next one, so no file is larger than asked.
 * What is written is a function of the batch and of where it begins, so a batch that a crash has
 * cut can be written again from where it ended: see keeper/spool.h.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/logline.h"

enum {
	JOBLOG_MAX_DEFAULT_BYTES = 16 * 1024 * 1024,
	JOBLOG_FILES_DEFAULT = 2,
	JOBLOG_FILES_MIN = 2, /* with one file a reader would lose everything at each rotation */
	JOBLOG_BUFFER_SIZE = 4 * LOGLINE_MAX,
};

struct joblog {
	char *path;
	int fd; /* -1: closed, opened by the next write */
	uint64_t size_bytes, max_bytes;
	uint64_t base; /* position of the file's first byte */
	uint32_t max_files;
	bool torn;    /* the file does not end with a line end */
	bool failing; /* the last write failed and was told */
};

/* What one read gave, and where it goes. */
struct joblog_batch {
	enum logline_stream stream;
	int64_t time_ns;
	const char *text;
	size_t size;
	uint64_t base;     /* of the log's file before */
	uint64_t position; /* of the log's end before; JOBLOG_NOWHERE when it could not be opened */
	bool torn;         /* the log did not end with a line end */
};

#define JOBLOG_NOWHERE UINT64_MAX

/* Takes `path` over by copying; nothing is opened yet.  Limits of 0 are the defaults. */
void joblog_init(struct joblog *log, const char *path, uint64_t max_bytes, uint32_t max_files);

/* Opens the log when it is closed and says where the next batch begins. */
void joblog_begin(struct joblog *log, struct joblog_batch *batch);

/*
 * Writes a batch: a line per line, the last one partial unless it ends with '\n'.  `buffer` of
 * JOBLOG_BUFFER_SIZE is scratch.
 */
void joblog_write(struct joblog *log, const struct joblog_batch *batch, char *buffer);

/* The same for a batch that may have been written in whole or in part before a crash. */
void joblog_write_again(struct joblog *log, const struct joblog_batch *batch, char *buffer);

void joblog_close(struct joblog *log);
void joblog_done(struct joblog *log);
