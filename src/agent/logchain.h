#pragma once
/*
 * agent/logchain.h - all files of a log as one string of bytes that begins where the oldest begins.
 *
 * Each file says where it lies (codec/logline.h's head), so a position means the same byte before
 * and after a rotation.  A chain is what was there when it was opened; it keeps the files open, so
 * that nothing of them is lost while it reads.  Searches look at a few blocks, never at everything.
 *
 * Used by agent/logreader.  Does I/O, keeps no other state: any thread, one at a time.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "codec/keeper_wire.h"
#include "codec/logline.h"

struct logchain_file {
	int fd;
	dev_t device;
	ino_t inode;
	uint64_t base; /* position of its first byte */
};

struct logchain {
	unsigned int count; /* from the oldest to the newest */
	struct logchain_file files[KEEPER_LOG_FILES_MAX];
};

/* Opens what there is; a log that was never written is an empty chain. */
void logchain_open(struct logchain *chain, const char *path);

/* Has the newest file been renamed since? */
bool logchain_is_outdated(const struct logchain *chain, const char *path);

/* The first position that can be read, and the first that cannot (yet). */
uint64_t logchain_begin(const struct logchain *chain);
uint64_t logchain_end(const struct logchain *chain);

/*
 * Reads at *position, which moves over holes between files, and to the begin when it lies before.
 * A count, 0 at the end.
 */
size_t logchain_read(const struct logchain *chain, uint64_t *position, char *buffer, size_t size);

/* Closes the files that end before `position`. */
void logchain_drop(struct logchain *chain, uint64_t position);

/* Where the first line begins that was not written before `time_ns`. */
uint64_t logchain_find_time(const struct logchain *chain, int64_t time_ns);

/*
 * Where the last `lines` lines before `end` begin, but not before `begin`.  Only streams whose bit
 * (1 << enum logline_stream) is set count; a line counts when it ends, pieces belong to it.
 */
uint64_t logchain_find_tail(const struct logchain *chain, uint64_t begin, uint64_t end,
			    int64_t lines, unsigned int streams);

void logchain_close(struct logchain *chain);
