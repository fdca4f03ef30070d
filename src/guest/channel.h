#pragma once
/*
 * guest/channel.h - the guest channel, this end: connections of the host, and their streams.
 *
 * docs/design/0007-virtual-machines.md has the protocol: the frames of codec/frame.h over vsock
 * connections, or over the virtio-serial port brume.guest.  What breaks the format ends the
 * connection.  A stream is what job.c makes of it.  One thread, on the loop.
 */
#include <stddef.h>

#include "base/json.h"
#include "codec/frame.h"

struct error;
struct guest;
struct job;
struct stream;

enum { CHANNEL_STREAMS_MAX = 64, CHANNEL_VSOCK_PORT = 1024 };

/* -- for job.c ----------------------------------------------------------------------------------
 */

struct guest *stream_guest(const struct stream *stream);
/* How many bytes may be sent now: credit, and room in the connection. */
size_t stream_room(const struct stream *stream);
void stream_send(struct stream *stream, enum frame_channel channel, const void *data, size_t size);
/* Lets the host send that much more. */
void stream_grant(struct stream *stream, size_t bytes);
/* Writes out what the calls above have queued; at the end of a callback of the job's own. */
void stream_flush(struct stream *stream);
/* Ends it; the job is not called any more. */
void stream_close_code(struct stream *stream, int exit_code);
void stream_close_error(struct stream *stream, const struct error *err, int exit_code);

/* -- what job.c does for it ---------------------------------------------------------------------
 */

/* *ret is NULL when the stream was answered at once. */
int job_open(struct stream *stream, const json_t *arguments, struct job **ret, struct error *err);
int job_received(struct job *job, enum frame_channel channel, const char *data, size_t size,
		 struct error *err);
void job_writable(struct job *job);
/* The host has closed the stream, or is gone. */
void job_left(struct job *job);
