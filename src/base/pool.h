#pragma once
/*
 * base/pool.h - worker threads for calls that block, so that the event loop never does.
 *
 *	pool_submit(pool, work, done, data);
 *
 * `work` runs on a worker; afterwards `done` runs on the thread of the loop the pool was made for.
 * Used by the agent's actors and by the store.  A pool belongs to its loop's thread: only that
 * thread submits and frees.
 */
#include <systemd/sd-event.h>

#include "base/cleanup.h"

struct error;
struct pool;

typedef void (*pool_work_fn)(void *data); /* on a worker thread */
typedef void (*pool_done_fn)(void *data); /* on the loop's thread */

/* Threads are started when work arrives, `threads_max` at most, and end when idle for a while. */
int pool_new(sd_event *event, unsigned int threads_max, struct pool **ret, struct error *err);

void pool_submit(struct pool *pool, pool_work_fn work, pool_done_fn done, void *data);

/* Waits for work that has begun; work that has not begun is dropped and its `done` is not called.
 */
void pool_free(struct pool *pool);
DEFINE_AUTO(struct pool *, pool_free)
