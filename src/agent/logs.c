/* An instance's log over a stream: from the beginning or the last lines, and on as it grows. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/agent_internal.h"
#include "agent/instance_actor.h"
#include "agent/logtail.h"
#include "agent/stream.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/strbuf.h"
#include "codec/logline.h"
#include "model/member.h"

enum { CHUNK_SIZE = 64 * 1024 };

/* Finding where the last lines begin; outlives the stream. */
struct search {
	struct logs *logs; /* NULL: the stream is gone */
	char *path;
	int64_t tail;
	struct logtail found;
};

struct logs {
	struct stream *stream;
	struct agent *agent;
	char uid[UID_SIZE];
	char *path;
	struct search *search;
	bool follow, timestamps;
	bool inside[LOGLINE_STDERR + 1]; /* of a line that goes on, per stream */
	int fd;                          /* what is being read; -1: none yet */
	struct strbuf text;              /* read and not sent yet */
	sd_event_source *watch;
	sd_event_source *defer; /* there is more to do, but others come first */
};

static void logs_free(void *data)
{
	struct logs *logs = data;

	if (logs->search)
		logs->search->logs = NULL;
	sd_event_source_disable_unref(logs->watch);
	sd_event_source_disable_unref(logs->defer);
	fd_close(logs->fd);
	strbuf_done(&logs->text);
	free(logs->path);
	free(logs);
}

static void put_line(struct logs *logs, const struct logline *line, struct strbuf *out)
{
	char time[LOGLINE_TIME_SIZE];

	if (logs->timestamps && !logs->inside[line->stream]) {
		logline_format_time(line->time_ns, time);
		strbuf_printf(out, "%s ", time);
	}
	strbuf_append(out, line->text, line->text_size);
	if (!line->partial)
		strbuf_puts(out, "\n");
	logs->inside[line->stream] = line->partial;
}

/* Sends complete lines as far as the credit goes; false when it is used up. */
static bool send_lines(struct logs *logs)
{
	AUTO(strbuf_done) struct strbuf out = {};
	size_t used = 0, credit = stream_credit(logs->stream);
	enum logline_stream channel = LOGLINE_STDOUT;
	bool room = true;

	while (room) {
		const char *start = logs->text.data + used;
		const char *end =
			used < logs->text.size ? memchr(start, '\n', logs->text.size - used) : NULL;
		struct logline line;

		if (!end)
			break;
		if (logline_parse(start, (size_t) (end - start), &line) < 0) {
			/* A line that a crash has cut. */
			used += (size_t) (end - start) + 1;
			continue;
		}
		room = out.size + line.text_size + LOGLINE_TIME_SIZE + 1 <= credit;
		if (!room)
			break;
		if (out.size > 0 && (line.stream != channel || out.size >= CHUNK_SIZE)) {
			stream_send(logs->stream, (enum frame_channel) channel, out.data, out.size);
			credit -= out.size;
			strbuf_consume(&out, out.size);
		}
		channel = line.stream;
		put_line(logs, &line, &out);
		used += (size_t) (end - start) + 1;
	}
	if (out.size > 0)
		stream_send(logs->stream, (enum frame_channel) channel, out.data, out.size);
	strbuf_consume(&logs->text, used);
	return room;
}

/* Is the file we read the one that has the name now? */
static bool was_rotated(const struct logs *logs)
{
	struct stat ours, present;

	return logs->fd >= 0 && fstat(logs->fd, &ours) == 0 && stat(logs->path, &present) == 0 &&
	       (ours.st_ino != present.st_ino || ours.st_dev != present.st_dev);
}

static void open_present(struct logs *logs)
{
	fd_close(logs->fd);
	logs->fd = open(logs->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

/* Reads on; 1: there is something new, 0: everything that is there was read. */
static int read_more(struct logs *logs)
{
	bool rotated;
	ssize_t n;

	if (logs->fd < 0)
		open_present(logs);
	if (logs->fd < 0)
		return 0;
	/* Asked before reading: what is written before a rotation is read from the old file. */
	rotated = was_rotated(logs);
	n = read(logs->fd, strbuf_reserve(&logs->text, CHUNK_SIZE), CHUNK_SIZE);
	if (n > 0) {
		strbuf_grown(&logs->text, (size_t) n);
		return 1;
	}
	if (!rotated)
		return 0;
	open_present(logs);
	return logs->fd >= 0;
}

static void pump(struct logs *logs);

static int on_defer(sd_event_source *source, void *data)
{
	sd_event_source_set_enabled(source, SD_EVENT_OFF);
	pump(data);
	return 0;
}

static void go_on_later(struct logs *logs)
{
	if (logs->defer)
		sd_event_source_set_enabled(logs->defer, SD_EVENT_ONESHOT);
	else
		sd_event_add_defer(logs->agent->event, &logs->defer, on_defer, logs);
}

static void pump(struct logs *logs)
{
	bool alive = logs->follow && instance_is_alive(logs->agent, logs->uid);

	if (logs->search || !send_lines(logs))
		return;
	/* One piece at a time: a long log must not keep the loop from other things. */
	if (read_more(logs) > 0) {
		go_on_later(logs);
		return;
	}
	if (!alive)
		stream_close_code(logs->stream, 0);
}

static void logs_writable(void *data)
{
	pump(data);
}

static int logs_received(void *data, enum frame_channel channel, const char *bytes, size_t size,
			 struct error *err)
{
	(void) data;
	(void) channel;
	(void) bytes;
	(void) size;
	return error_say(err, -EINVAL, "logs: takes no data");
}

static const struct stream_ops logs_ops = { logs_received, logs_writable, logs_free };

static int on_changed(sd_event_source *source, const struct inotify_event *event, void *data)
{
	(void) source;
	(void) event;
	pump(data);
	return 0;
}

static void search(void *data)
{
	struct search *search = data;

	logtail_find(search->path, search->tail, &search->found);
}

static void searched(void *data)
{
	struct search *search = data;
	struct logs *logs = search->logs;

	if (logs) {
		logs->search = NULL;
		logs->fd = TAKE_FD(search->found.fd);
		pump(logs);
	}
	fd_close(search->found.fd);
	free(search->path);
	free(search);
}

static int read_arguments(const json_t *arguments, struct logs *logs, int64_t *ret_tail,
			  struct error *err)
{
	struct json_reader in = { .err = err, .where = "logs" };

	json_read_any(&in, arguments, "kind", NULL);
	member_read_uid(&in, arguments, "uid", logs->uid);
	json_read_bool(&in, arguments, "follow", &logs->follow);
	json_read_bool(&in, arguments, "timestamps", &logs->timestamps);
	json_read_int(&in, arguments, "tail", -1, INT32_MAX, ret_tail);
	if (in.result == 0 && !logs->uid[0])
		return error_say(err, -EINVAL, "logs.uid: is missing");
	return json_reader_finish(&in, arguments);
}

static int begin(struct logs *logs, const json_t *arguments, int64_t *ret_tail, struct error *err)
{
	int r = read_arguments(arguments, logs, ret_tail, err);

	if (r < 0)
		return r;
	AUTO(free) char *folder = agent_state_path(logs->agent, logs->uid, NULL);
	logs->path = agent_state_path(logs->agent, logs->uid, "log");
	/* An instance that has never run has no folder and nothing to say. */
	if (!logs->follow || access(folder, F_OK) < 0)
		return 0;
	r = sd_event_add_inotify(logs->agent->event, &logs->watch, folder,
				 IN_MODIFY | IN_CREATE | IN_MOVED_TO, on_changed, logs);
	return r < 0 ? error_set(err, r, "watch %s", folder) : 0;
}

int logs_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
	      void **ret_data, struct error *err)
{
	struct logs *logs = mem_new0(struct logs);
	int64_t tail = -1;
	int r;

	logs->stream = stream;
	logs->agent = stream_agent(stream);
	logs->fd = -1;
	r = begin(logs, arguments, &tail, err);
	if (r < 0) {
		logs_free(logs);
		return r;
	}
	logs->search = mem_new0(struct search);
	*logs->search = (struct search){ logs, mem_strdup(logs->path), tail, { .fd = -1 } };
	pool_submit(logs->agent->pool, search, searched, logs->search);
	*ret_ops = &logs_ops;
	*ret_data = logs;
	return 0;
}

static void look_again(void *data, void *argument)
{
	struct logs *logs = data;

	if (strcmp(logs->uid, argument) == 0)
		go_on_later(logs);
}

void logs_instance_changed(struct agent *agent, const char *uid)
{
	stream_each(agent, &logs_ops, look_again, (void *) uid);
}
