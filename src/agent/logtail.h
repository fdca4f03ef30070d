#pragma once
/*
 * agent/logtail.h - where the last N lines of a log begin.
 *
 * Used by agent/logs.c on a worker: reads up to all of LOG.1 and LOG.  A line counts when it ends
 * (codec/logline.h's F); pieces belong to the line they begin.
 */
#include <stdint.h>

struct logtail {
	int fd; /* positioned where reading begins: LOG.1 or LOG; -1: there is no log */
};

/* `lines` -1: all of them.  The caller owns ret->fd. */
void logtail_find(const char *path, int64_t lines, struct logtail *ret);
