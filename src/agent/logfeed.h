#pragma once
/*
 * agent/logfeed.h - a log that flows into a stream, as fast as the stream's reader takes it.
 *
 * Used by agent/logs.c, agent/attach.c and agent/flow_stream.c on the loop's thread.  An instance
 * is never held back by who reads its log: it writes into files, and a reader so slow that they are
 * rotated away under its hands is told how much it has missed ({"dropped": BYTES} on the control
 * channel). With `cursors` each piece is followed by {"cursor": TEXT}: where to go on behind it.
 */
#include <systemd/sd-event.h>

#include "agent/logreader.h"
#include "base/json.h"
#include "model/meta.h"

struct agent;
struct error;
struct logsearch;
struct stream;

struct logfeed {
	struct stream *stream;
	struct agent *agent;
	char uid[UID_SIZE]; /* of the instance, or of what else the log is about */
	char *folder;       /* where its files are */
	bool cursors, follow;
	bool late; /* what is written from now on is not wanted */
	struct logreader_range range;
	struct logreader reader;
	struct logsearch *search; /* the worker that looks for the place */
	sd_event_source *watch;
	sd_event_source *defer; /* there is more to do, but others come first */
	sd_event_source *clock; /* for `until`, while it is followed */
	/* Everything that is there was sent.  May end the stream. */
	void (*at_end)(void *data);
	void *data;
};

/* Reads tail, since, until, timestamps, streams, cursor and cursors. */
struct json_reader;
void logfeed_read_arguments(struct logfeed *feed, struct json_reader *in, const json_t *arguments);

/* Begins with the log `name` in `folder` (taken over); with `follow` it goes on when it grows. */
void logfeed_start(struct logfeed *feed, char *folder, const char *name, bool follow);

/* Soon: sends what there is, then calls at_end(). */
void logfeed_go_on(struct logfeed *feed);
void logfeed_pump(struct logfeed *feed);

/* For at_end(): whatever comes later, nothing of it is wanted. */
bool logfeed_is_over(const struct logfeed *feed);

void logfeed_done(struct logfeed *feed);
