/*
 * What instances consume: one sample of one as a plain answer, or a WebSocket with samples of many,
 * again and again.
 *
 * The agent reads and says when; here its messages become text messages.  A client that reads
 * slowly stops the agent's credit, and the agent begins no new round.
 */
#include <errno.h>
#include <string.h>

#include "api/api_internal.h"
#include "api/ask.h"
#include "api/handlers.h"
#include "api/link.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

enum { INTERVAL_MS = 1000, INTERVAL_MIN_MS = 100, INTERVAL_MAX_MS = 3600 * 1000 };

struct watcher {
	struct api *api;
	struct ws *ws;
	struct link_stream *stream;
	json_t *arguments;
	struct link_backlog backlog; /* in the WebSocket's queue */
};

static void watcher_free(void *state)
{
	struct watcher *watcher = state;

	link_stream_close(watcher->stream, "the client has gone");
	json_decref(watcher->arguments);
	free(watcher);
}

static void finish(struct watcher *watcher, const json_t *message)
{
	AUTO(free) char *text = json_text(message);

	ws_send(watcher->ws, true, text, strlen(text));
	ws_finish(TAKE_PTR(watcher->ws), 1000, "");
	watcher_free(watcher);
}

static void on_stream_data(struct link_stream *stream, enum frame_channel channel, const char *data,
			   size_t size, void *user)
{
	struct watcher *watcher = user;

	bool full = channel == FRAME_CHANNEL_OUT && ws_send(watcher->ws, true, data, size) == 1;

	link_backlog_add(&watcher->backlog, stream, size, full);
}

static void on_stream_closed(struct link_stream *stream, const json_t *result, void *user)
{
	struct watcher *watcher = user;

	(void) stream;
	watcher->stream = NULL;
	finish(watcher, result);
}

static void on_drained(struct ws *ws, void *user)
{
	struct watcher *watcher = user;

	(void) ws;
	link_backlog_drained(&watcher->backlog, watcher->stream);
}

static void on_closed(struct ws *ws, void *user)
{
	ws_free(ws);
	watcher_free(user);
}

static void on_open(struct api *api, const struct ws_setup *setup, void *state)
{
	static const struct ws_ops socket_ops = { .drained = on_drained, .closed = on_closed };
	static const struct link_stream_ops stream_ops = { .data = on_stream_data,
							   .closed = on_stream_closed };
	struct watcher *watcher = state;
	struct error err = {};
	int r = ws_new(api->event, setup, &socket_ops, watcher, &watcher->ws, &err);

	if (r < 0) {
		log_warning("stats: %s", err.msg);
		setup->release(setup->release_data);
		watcher_free(watcher);
		return;
	}
	r = link_stream_open(api->link, watcher->arguments, &stream_ops, watcher, &watcher->stream,
			     &err);
	if (r < 0) {
		AUTO(json_decref)
		json_t *message =
			json_pack("{s:{s:i, s:s}}", "error", "code", -r, "message", err.msg);
		finish(watcher, message);
	}
}

/* The uids of "web,db"; 1 when the request was answered with an error. */
static int read_instances(struct request *req, const char *list, json_t *uids, struct error *err)
{
	AUTO(free) char *copy = mem_strdup(list);
	struct control_location location;
	char *rest = copy, *name;

	while ((name = strsep(&rest, ","))) {
		int r = control_locate(request_api(req)->control, KIND_INSTANCE,
				       request_project(req), name, &location, err);

		if (r < 0) {
			reply_error(req, r, err, KIND_INSTANCE, name);
			return 1;
		}
		if (!location.running && !location.paused)
			return error_say(err, -EBUSY, "instance %s: is not running", name);
		json_array_append_new(uids, json_string(location.uid));
	}
	return 0;
}

int stats_follow(struct request *req, struct error *err)
{
	const char *list = request_query(req, "instance");
	int64_t interval_ms = INTERVAL_MS;
	struct watcher *watcher;
	json_t *uids;
	int r = request_query_int(req, "interval_ms", INTERVAL_MIN_MS, INTERVAL_MAX_MS,
				  &interval_ms, err);

	if (r < 0)
		return r;
	watcher = mem_new0(struct watcher);
	watcher->api = request_api(req);
	watcher->arguments =
		json_pack("{s:s, s:s, s:I}", "kind", "stats", "project", request_project(req),
			  "interval_ms", (json_int_t) interval_ms);
	request_keep(req, watcher, watcher_free);
	if (list) {
		uids = json_array();
		json_object_set_new(watcher->arguments, "uids", uids);
		r = read_instances(req, list, uids, err);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	return request_upgrade(req, on_open, err);
}

int instance_stats(struct request *req, struct error *err)
{
	AUTO(json_decref) json_t *arguments = NULL;
	struct control_location location;
	int r = ask_locate_running(req, &location, err);

	if (r != 0)
		return r < 0 ? r : 0;
	arguments = json_pack("{s:s, s:s, s:[s], s:b}", "kind", "stats", "project",
			      request_project(req), "uids", location.uid, "once", 1);
	return ask_agent(req, arguments, err);
}

int instance_processes(struct request *req, struct error *err)
{
	AUTO(json_decref) json_t *arguments = NULL;
	struct control_location location;
	int r = ask_locate_running(req, &location, err);

	if (r != 0)
		return r < 0 ? r : 0;
	arguments = json_pack("{s:s, s:s}", "kind", "top", "uid", location.uid);
	return ask_agent(req, arguments, err);
}
