#pragma once
/*
 * guest/poller.h - the event loop of brume-init: descriptors and timers over epoll.
 *
 * brume-init is linked statically and Debian has no static libsystemd.  Descriptors are watched
 * edge-triggered: a callback reads or writes until it would block, then nothing is called for that
 * reason again until something changed.  (A virtio port whose host end is closed is "hung up" all
 * the time; level-triggered that would be an endless loop.)  One thread.
 */
#include <stdint.h>

#include "base/cleanup.h"

struct error;
struct poller;
struct poller_watch;

int poller_new(struct poller **ret, struct error *err);
void poller_free(struct poller *poller);
DEFINE_AUTO(struct poller *, poller_free)

/* `fn` is called for EPOLLIN, EPOLLOUT, hang-ups and errors alike, and once soon after this. */
typedef void (*poller_fn)(void *data);
int poller_watch_fd(struct poller *poller, int fd, poller_fn fn, void *data,
		    struct poller_watch **ret);

/* Calls `fn` once after that time; freed like the others, also after it was called. */
struct poller_watch *poller_watch_timer(struct poller *poller, uint64_t after_ms, poller_fn fn,
					void *data);

/* Also from within a callback.  The descriptor stays open. */
void poller_unwatch(struct poller_watch *watch);

/* Waits for and handles what comes, until poller_stop(); may be called again. */
int poller_run(struct poller *poller);
void poller_stop(struct poller *poller);
