#pragma once
/*
 * vmm/loop.h - the event loop of one thread: descriptors, timers, and work posted by other threads.
 *
 * brume-vmm is linked statically (it must start in milliseconds, in an empty root) and Debian has
 * no static libsystemd, so this folder does not use sd-event; this is epoll with just what a device
 * needs.  The main thread has one loop, and every device that is worth a thread has one more.
 * Thread: a loop is used by the thread that runs it; only loop_post(), loop_call() and loop_quit()
 * may be called by others.
 */
#include <stdint.h>

#include "base/cleanup.h"

struct error;
struct loop;
struct loop_source;

int loop_new(struct loop **ret, struct error *err);
/* The thread must have ended; sources that are left are freed. */
void loop_free(struct loop *loop);
DEFINE_AUTO(struct loop *, loop_free)

/* Runs until loop_quit(): its code, or -errno. */
int loop_run(struct loop *loop);
void loop_quit(struct loop *loop, int code);

/* Runs the loop in a new thread with this name (15 characters); loop_stop() ends and joins it. */
int loop_start_thread(struct loop *loop, const char *name, struct error *err);
void loop_stop_thread(struct loop *loop);

/* `events` are epoll's (EPOLLIN, ...).  The descriptor is borrowed.  Level-triggered. */
typedef void (*loop_fd_fn)(struct loop_source *source, int fd, uint32_t events, void *data);
int loop_add_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn fn, void *data,
		struct loop_source **ret);
int loop_source_set_events(struct loop_source *source, uint32_t events);

/* Calls once at `due_ns` (CLOCK_MONOTONIC); set again with loop_source_set_timer(); 0 = never. */
typedef void (*loop_timer_fn)(struct loop_source *source, void *data);
int loop_add_timer(struct loop *loop, uint64_t due_ns, loop_timer_fn fn, void *data,
		   struct loop_source **ret);
void loop_source_set_timer(struct loop_source *source, uint64_t due_ns);

/* Also from within its own callback. */
void loop_source_free(struct loop_source *source);
DEFINE_AUTO(struct loop_source *, loop_source_free)

typedef void (*loop_post_fn)(void *data);
/* Has the loop's thread call it soon. */
void loop_post(struct loop *loop, loop_post_fn fn, void *data);
/* The same and waits until it was called; called directly when the caller is the loop's thread or
 * nobody runs the loop. */
void loop_call(struct loop *loop, loop_post_fn fn, void *data);
