#pragma once
/*
 * agent/outpipe.h - bytes of a pipe or terminal towards a stream, and back: as fast as both allow.
 *
 * Used by exec.c and transfer.c on the loop's thread.  Reading stops while the stream has no
 * credit; writing keeps what the other side does not take yet, which the credit bounds, and gives
 * credit back as it goes.
 */
#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

#include "agent/stream.h"
#include "base/strbuf.h"

struct error;

/* From a descriptor to the stream. */
struct outpipe {
	struct stream *stream;
	enum frame_channel channel;
	int fd; /* -1: nothing, or its end was reached */
	bool paused;
	sd_event_source *source;
	void (*ended)(void *data); /* the end was reached; may free everything */
	void *data;
};

/* Takes over `fd`, which is made non-blocking. */
int outpipe_start(struct outpipe *pipe, struct stream *stream, enum frame_channel channel, int fd,
		  void (*ended)(void *data), void *data, struct error *err);

/* There is credit again. */
void outpipe_credited(struct outpipe *pipe);

/* Leaves what comes where it is, and takes it up again. */
void outpipe_pause(struct outpipe *pipe);
void outpipe_resume(struct outpipe *pipe);

/* Reads what is there now, as far as the credit goes.  False: something is left. */
bool outpipe_drain(struct outpipe *pipe);

void outpipe_done(struct outpipe *pipe);

/* From the stream to a descriptor. */
struct inpipe {
	struct stream *stream;
	int fd; /* -1: not open (yet), or nobody reads */
	sd_event_source *source;
	struct strbuf pending;
	bool finishing;               /* closed when everything pending is written */
	bool gone;                    /* nobody reads: what comes is dropped */
	void (*finished)(void *data); /* everything was written and it is closed; may be NULL */
	void *data;
};

int inpipe_start(struct inpipe *pipe, struct stream *stream, int fd, struct error *err);
void inpipe_write(struct inpipe *pipe, const char *data, size_t size);
void inpipe_finish(struct inpipe *pipe);
/* Closes it now; what comes is dropped. */
void inpipe_close(struct inpipe *pipe);
void inpipe_done(struct inpipe *pipe);
