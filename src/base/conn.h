#pragma once
/*
 * base/conn.h - a bounded, buffered byte stream over a non-blocking socket on the event loop.
 *
 * Used by both ends of the agent link and by everything else that talks over a stream socket.
 * Reading: the `read` callback gets all bytes that are there and consumes what it can use; the rest
 * waits for more.  Writing: conn_write() never blocks; what the peer does not take yet is queued,
 * and the return value says when to stop until `drained` is called.
 * Thread: the loop's.  A conn may be freed inside any of its callbacks.
 */
#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"

struct conn;
struct error;
struct strbuf;

struct conn_ops {
	/*
	 * Bytes have arrived in `in`; take them with strbuf_consume().  A negative result closes
	 * the connection with that reason.  Leaving `in_max` bytes untouched does too (-EMSGSIZE).
	 */
	int (*read)(struct conn *conn, struct strbuf *in, void *data);
	/* The queue is below half of the high-water mark again, after it was above it.  May be
	 * NULL. */
	void (*drained)(struct conn *conn, void *data);
	/*
	 * The last call: the peer has closed (0) or it broke (-errno).  The owner still calls
	 * conn_free().  Never called from within conn_write() or after conn_free().
	 */
	void (*closed)(struct conn *conn, int reason, void *data);
};

struct conn_limits {
	size_t in_max;   /* bytes that may wait for the read callback */
	size_t out_high; /* bytes queued above which conn_write() says 1 */
	size_t out_max;  /* bytes queued above which conn_write() refuses */
};

/* Takes over `fd` (a connected stream socket; made non-blocking) when it returns 0. */
int conn_new(sd_event *event, int fd, const struct conn_limits *limits, const struct conn_ops *ops,
	     void *data, struct conn **ret, struct error *err);

/*
 * Sends or queues all of it, or nothing.  0; 1 when the queue is above the high-water mark: hold
 * back until `drained`; -ENOBUFS when it would be above out_max; -EPIPE when it is closed.
 */
int conn_write(struct conn *conn, const void *data, size_t size);

size_t conn_queued(const struct conn *conn);

/* Stops and restarts reading: back-pressure towards the peer. */
void conn_pause(struct conn *conn, bool paused);

/* Reads nothing more; `closed` comes (with 0) when the queue has been sent. */
void conn_finish(struct conn *conn);

int conn_fd(const struct conn *conn);

/* Closes at once; what is queued is lost. */
void conn_free(struct conn *conn);
DEFINE_AUTO(struct conn *, conn_free)
