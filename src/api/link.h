#pragma once
/*
 * api/link.h - brumed's end of the agent link: one node's agent, and the streams through it.
 *
 * Used by api/api, which connects it to control/, and by the handlers that carry bytes between a
 * client and the node: exec, logs, import, export.  Frames are codec/frame's.
 * The agent connects to a Unix socket, only user 0 may.  A second agent replaces the first (the
 * first one died and the kernel has not told yet).  When the link breaks all streams end; the agent
 * connects again and gets everything anew, so nothing is kept for it.
 * Thread: the loop's.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "codec/frame.h"

struct error;
struct link;
struct link_stream;

/* The bodies of the agent's frames.  A negative result says that it does not follow the protocol.
 */
struct link_ops {
	/* The agent is there: send it all with link_assign(), then link_assigned_all(). */
	int (*hello)(const json_t *body, void *user, struct error *err);
	int (*status)(const json_t *body, void *user, struct error *err);
	/* After hello, when the connection has ended. */
	void (*gone)(void *user);
};

/* Takes over the listening socket when it returns 0. */
int link_new(sd_event *event, int listen_fd, uid_t allowed_uid, const struct link_ops *ops,
	     void *user, struct link **ret, struct error *err);

/* Until then the agent waits in the socket's backlog. */
void link_start(struct link *link);

/* After the agent's hello. */
bool link_connected(const struct link *link);

/*
 * Each sends one frame, or nothing when no agent is connected.  An agent that does not read is
 * disconnected: it gets everything anew.
 */
void link_assign(struct link *link, const json_t *resource);
void link_assigned_all(struct link *link);
void link_forget(struct link *link, const char *kind, const char *uid);

/* Says goodbye, ends all streams. */
void link_free(struct link *link);
DEFINE_AUTO(struct link *, link_free)

struct link_stream_ops {
	/* Bytes of a channel; the window opens again with link_stream_consumed().  NULL: dropped.
	 */
	void (*data)(struct link_stream *stream, enum frame_channel channel, const char *data,
		     size_t size, void *user);
	/* Everything written has left, after link_stream_write() has said 1.  May be NULL. */
	void (*drained)(struct link_stream *stream, void *user);
	/*
	 * The last call: `result` is {"exit_code"} or {"error": {"code", "message"}}, borrowed. The
	 * stream is freed afterwards.
	 */
	void (*closed)(struct link_stream *stream, const json_t *result, void *user);
};

/* -EHOSTDOWN when no agent is connected.  `arguments` is an object that has "kind". */
int link_stream_open(struct link *link, const json_t *arguments, const struct link_stream_ops *ops,
		     void *user, struct link_stream **ret, struct error *err);

/* Sends as the window allows and keeps the rest.  0; 1: hold back until `drained`. */
int link_stream_write(struct link_stream *stream, enum frame_channel channel, const void *data,
		      size_t size);

/* A control message; it keeps its place among what was written. */
int link_stream_control(struct link_stream *stream, const json_t *message);

void link_stream_consumed(struct link_stream *stream, size_t size);

/*
 * Of a stream that is passed on to a slow client: what waits in the client's queue is not consumed
 * yet.  A zeroed struct is an empty one.
 */
struct link_backlog {
	size_t bytes;
	bool full;
};

/* `size` bytes were queued; `full`: the queue says that it is long. */
void link_backlog_add(struct link_backlog *backlog, struct link_stream *stream, size_t size,
		      bool full);

/* The queue is short again.  `stream` may be NULL: it has ended. */
void link_backlog_drained(struct link_backlog *backlog, struct link_stream *stream);

/* Ends the stream from this side and frees it; `closed` is not called.  `message` may be NULL. */
void link_stream_close(struct link_stream *stream, const char *message);
