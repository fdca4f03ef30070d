#pragma once
/*
 * keeper/spool.h - output on its way from a pipe to a log, kept where kill -9 does not reach it.
 *
 * What a plain read() has taken out of a pipe exists only in the keeper's memory until it is
 * written.  So the keeper lets the kernel move it into a file below the run folder: every byte is
 * in the pipe or in the file at any moment, and the file's size says how many came.  Beside them
 * stands which batch they are of, so that the next keeper writes it again, byte for byte, from
 * where the log ends.  Nothing is lost and nothing doubled.
 *
 * One file for the whole keeper: it is single-threaded and finishes a batch before the next one.
 * Used by keeper/ only.  Without room for the file it falls back to memory.
 */
#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "keeper/joblog.h"

enum { SPOOL_BATCH_MAX = 64 * 1024 };

struct spool;

/* Finishes the batch that a keeper left behind in `path`; `buffer` as for joblog_write(). */
void spool_recover(const char *path, char *buffer);

/* Never NULL; without its file it works, but does not survive. */
struct spool *spool_new(const char *path);

/*
 * Takes up to SPOOL_BATCH_MAX bytes out of a non-blocking pipe or terminal for `log`.  Completes
 * `batch`, in which stream and time are given.  A count, 0 at the end, -EAGAIN, -errno.
 */
ssize_t spool_take(struct spool *spool, int fd, struct joblog *log, struct joblog_batch *batch);

/* The batch is in the log. */
void spool_commit(struct spool *spool);

void spool_free(struct spool *spool);
DEFINE_AUTO(struct spool *, spool_free)
