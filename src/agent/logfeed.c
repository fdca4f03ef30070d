#include "agent/logfeed.h"

#include <errno.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "agent/agent_internal.h"
#include "agent/stream.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "model/member.h"

enum { PIECE_MAX = 64 * 1024, NS_PER_MS = 1000000, NS_PER_US = 1000, LATE_ACCURACY_US = 1000 };

/* Outlives the stream. */
struct logsearch {
	struct logfeed *feed; /* NULL: the stream is gone */
	struct logreader reader;
};

static void read_streams(struct logfeed *feed, struct json_reader *in, const json_t *arguments)
{
	bool out = true, err = true;

	json_read_bool(in, arguments, "stdout", &out);
	json_read_bool(in, arguments, "stderr", &err);
	feed->range.streams = (out ? 1U << LOGLINE_STDOUT : 0) | (err ? 1U << LOGLINE_STDERR : 0);
}

void logfeed_read_arguments(struct logfeed *feed, struct json_reader *in, const json_t *arguments)
{
	AUTO(free) char *cursor = NULL;
	int64_t since_ms = 0, until_ms = 0;

	feed->range.tail = -1;
	json_read_any(in, arguments, "kind", NULL);
	member_read_uid(in, arguments, "uid", feed->uid);
	json_read_bool(in, arguments, "timestamps", &feed->range.timestamps);
	json_read_bool(in, arguments, "cursors", &feed->cursors);
	json_read_int(in, arguments, "tail", -1, INT32_MAX, &feed->range.tail);
	json_read_int(in, arguments, "since_ms", 0, INT64_MAX / NS_PER_MS, &since_ms);
	json_read_int(in, arguments, "until_ms", 0, INT64_MAX / NS_PER_MS, &until_ms);
	json_read_string(in, arguments, "cursor", &cursor);
	read_streams(feed, in, arguments);
	feed->range.since_ns = since_ms * NS_PER_MS;
	feed->range.until_ns = until_ms * NS_PER_MS;
	if (in->result == 0 && !feed->uid[0])
		in->result = error_say(in->err, -EINVAL, "%s.uid: is missing", in->where);
	if (in->result == 0 && feed->range.streams == 0)
		in->result = error_say(in->err, -EINVAL,
				       "%s: stdout and stderr cannot both be left out", in->where);
	if (in->result == 0 && cursor && cursor[0])
		in->result = logreader_parse_cursor(cursor, feed->uid, &feed->range, in->err);
}

static void send_control(struct logfeed *feed, json_t *message)
{
	AUTO(free) char *text = json_text(message);

	json_decref(message);
	stream_send(feed->stream, FRAME_CHANNEL_CONTROL, text, strlen(text));
}

static void send_cursor(struct logfeed *feed)
{
	char cursor[LOGREADER_CURSOR_SIZE];

	logreader_cursor(&feed->reader, feed->uid, cursor);
	send_control(feed, json_pack("{s:s}", "cursor", cursor));
}

/* Sends as far as the credit goes; false when it is used up. */
static bool send_lines(struct logfeed *feed)
{
	enum logline_stream channel = LOGLINE_STDOUT;
	bool sent = false;
	int r;

	for (;;) {
		AUTO(strbuf_done) struct strbuf out = {};
		size_t credit = stream_credit(feed->stream);

		r = logreader_take(&feed->reader, credit < PIECE_MAX ? credit : PIECE_MAX, &channel,
				   &out);
		if (r <= 0)
			break;
		stream_send(feed->stream, (enum frame_channel) channel, out.data, out.size);
		sent = true;
	}
	if (sent && feed->cursors)
		send_cursor(feed);
	return r == 0;
}

static void tell_dropped(struct logfeed *feed)
{
	if (feed->reader.dropped == 0)
		return;
	send_control(feed, json_pack("{s:I}", "dropped", (json_int_t) feed->reader.dropped));
	feed->reader.dropped = 0;
}

static int on_changed(sd_event_source *source, const struct inotify_event *event, void *data)
{
	(void) source;
	(void) event;
	logfeed_pump(data);
	return 0;
}

/* True when it has just begun: what was written before may not have been seen. */
static bool watch_folder(struct logfeed *feed)
{
	int r;

	/* An instance that has never run has no folder and nothing to say. */
	if (!feed->follow || feed->watch || access(feed->folder, F_OK) < 0)
		return false;
	r = sd_event_add_inotify(feed->agent->event, &feed->watch, feed->folder,
				 IN_MODIFY | IN_CREATE | IN_MOVED_TO, on_changed, feed);
	if (r < 0)
		log_warning("%s: cannot be watched: %s", feed->folder, strerror(-r));
	return r >= 0;
}

void logfeed_pump(struct logfeed *feed)
{
	if (feed->search || !send_lines(feed))
		return;
	/* One piece at a time: a long log must not keep the loop from other things. */
	if (logreader_fill(&feed->reader) || watch_folder(feed)) {
		tell_dropped(feed);
		logfeed_go_on(feed);
		return;
	}
	feed->at_end(feed->data);
}

static int on_defer(sd_event_source *source, void *data)
{
	sd_event_source_set_enabled(source, SD_EVENT_OFF);
	logfeed_pump(data);
	return 0;
}

void logfeed_go_on(struct logfeed *feed)
{
	if (feed->defer)
		sd_event_source_set_enabled(feed->defer, SD_EVENT_ONESHOT);
	else
		sd_event_add_defer(feed->agent->event, &feed->defer, on_defer, feed);
}

/* One more look: what was written until now is still wanted. */
static int on_late(sd_event_source *source, uint64_t usec, void *data)
{
	struct logfeed *feed = data;

	(void) source;
	(void) usec;
	feed->late = true;
	logfeed_go_on(feed);
	return 0;
}

/* Without a line behind `until` nothing else would end it. */
static void watch_clock(struct logfeed *feed)
{
	uint64_t until_us = (uint64_t) feed->range.until_ns / NS_PER_US;
	int r;

	if (!feed->follow || until_us == 0)
		return;
	r = sd_event_add_time(feed->agent->event, &feed->clock, CLOCK_REALTIME, until_us + 1,
			      LATE_ACCURACY_US, on_late, feed);
	if (r < 0)
		log_warning("%s: its end is not watched: %s", feed->folder, strerror(-r));
}

bool logfeed_is_over(const struct logfeed *feed)
{
	return feed->reader.over || feed->late || !feed->follow;
}

static void search(void *data)
{
	struct logsearch *search = data;

	logreader_open(&search->reader);
}

static void searched(void *data)
{
	struct logsearch *search = data;
	struct logfeed *feed = search->feed;

	if (feed) {
		feed->search = NULL;
		feed->reader = search->reader;
		/* Also without a line: who comes back goes on from here. */
		if (feed->cursors)
			send_cursor(feed);
		logfeed_pump(feed);
	} else {
		logreader_done(&search->reader);
	}
	free(search);
}

void logfeed_start(struct logfeed *feed, char *folder, const char *name, bool follow)
{
	AUTO(free) char *path = mem_printf("%s/%s", folder, name);

	feed->folder = folder;
	feed->follow = follow;
	watch_folder(feed);
	watch_clock(feed);
	feed->search = mem_new0(struct logsearch);
	feed->search->feed = feed;
	logreader_init(&feed->search->reader, path, &feed->range);
	pool_submit(feed->agent->pool, search, searched, feed->search);
}

void logfeed_done(struct logfeed *feed)
{
	if (feed->search)
		feed->search->feed = NULL;
	sd_event_source_disable_unref(feed->watch);
	sd_event_source_disable_unref(feed->defer);
	sd_event_source_disable_unref(feed->clock);
	logreader_done(&feed->reader);
	free(feed->folder);
}
