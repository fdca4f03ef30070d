/*
 * GET /1.0/events: every change as one text message.
 *
 * A client that reads slowly is not buffered for: its subscription is dropped after a complete
 * revision and taken up again from there when its socket has drained.
 */
#include <errno.h>
#include <string.h>

#include "api/api_internal.h"
#include "api/handlers.h"
#include "api/request.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/control.h"

struct follower {
	struct api *api;
	struct ws *ws;
	struct control_subscription *subscription;
	uint64_t cursor;
	bool full;
	char *project;
	int kind;
	char *name;
};

static void follower_free(void *state)
{
	struct follower *follower = state;

	control_subscription_free(follower->subscription);
	free(follower->project);
	free(follower->name);
	free(follower);
}

static void give_up(struct follower *follower, int code, const char *words)
{
	AUTO(json_decref)
	json_t *message = json_pack("{s:s, s:i, s:s, s:s}", "type", "error", "error_code",
				    code == -ESTALE ? 410 : 500, "error", words, "hint",
				    "list again, then follow from the ETag of the list");
	AUTO(free) char *text = json_text(message);

	ws_send(follower->ws, true, text, strlen(text));
	ws_finish(TAKE_PTR(follower->ws), 1008, "the stream cannot go on");
	follower_free(follower);
}

static void on_ended(int result, const struct error *err, void *data)
{
	give_up(data, result, err && err->msg[0] ? err->msg : strerror(-result));
}

static void on_event(const struct event *event, void *data)
{
	struct follower *follower = data;

	if (follower->full && event->revision != follower->cursor) {
		control_subscription_free(TAKE_PTR(follower->subscription));
		return;
	}
	follower->cursor = event->revision;
	AUTO(json_decref) json_t *document = event_encode(event);
	AUTO(free) char *text = json_dumps(document, JSON_COMPACT);
	if (text && ws_send(follower->ws, true, text, strlen(text)) == 1)
		follower->full = true;
}

static int subscribe(struct follower *follower, struct error *err)
{
	struct control_filter filter = { .project = follower->project,
					 .kind = follower->kind,
					 .name = follower->name };

	return control_subscribe(follower->api->control, follower->cursor, &filter, on_event,
				 on_ended, follower, &follower->subscription, err);
}

static void on_drained(struct ws *ws, void *user)
{
	struct follower *follower = user;
	struct error err = {};
	int r;

	(void) ws;
	follower->full = false;
	if (follower->subscription)
		return;
	r = subscribe(follower, &err);
	if (r < 0)
		give_up(follower, r, err.msg);
}

static void on_closed(struct ws *ws, void *user)
{
	ws_free(ws);
	follower_free(user);
}

static void on_open(struct api *api, const struct ws_setup *setup, void *state)
{
	static const struct ws_ops ops = { .drained = on_drained, .closed = on_closed };
	struct follower *follower = state;
	struct error err = {};
	int r;

	r = ws_new(api->event, setup, &ops, follower, &follower->ws, &err);
	if (r < 0) {
		log_warning("events: %s", err.msg);
		setup->release(setup->release_data);
		follower_free(follower);
		return;
	}
	r = subscribe(follower, &err);
	if (r < 0)
		give_up(follower, r, err.msg);
}

int events_follow(struct request *req, struct error *err)
{
	const char *kind = request_query(req, "kind");
	struct follower *follower;
	enum kind kind_value = KIND_COUNT;
	int64_t cursor = 0;
	int r = request_query_int(req, "cursor", 0, INT64_MAX, &cursor, err);

	if (r < 0)
		return r;
	if (kind && kind_parse(kind, &kind_value) < 0)
		return error_say(
			err, -EINVAL,
			"?kind=%s: must be instance, network, image, operation, project or "
			"node",
			kind);
	follower = mem_new0(struct follower);
	follower->api = request_api(req);
	follower->cursor = (uint64_t) cursor;
	follower->kind = kind ? (int) kind_value : -1;
	follower->project = mem_strdup(request_project(req));
	follower->name = mem_strdup(request_query(req, "name"));
	request_keep(req, follower, follower_free);
	return request_upgrade(req, on_open, err);
}
