/*
 * Exec, logs and flow logs: a client's WebSocket tied to a stream of the node's agent.
 *
 * Binary messages are a channel byte and bytes, text messages are control.  Nothing is buffered
 * beyond the windows of both sides: a slow client stops the agent (its credit stays away), a slow
 * agent stops the client (its socket is not read).
 */
#include <errno.h>
#include <string.h>

#include "api/api_internal.h"
#include "api/handlers.h"
#include "api/link.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "model/stream_control.h"

enum { ENV_MAX = 4096, CONTROL_MAX = 4096 };
#define TIME_MAX_MS INT64_C(9000000000000) /* the year 2255 */

struct session {
	struct api *api;
	struct ws *ws;
	struct link_stream *stream;
	json_t *arguments;           /* of the stream; exec completes them with the first message */
	struct link_backlog backlog; /* in the WebSocket's queue */
};

static void session_free(void *state)
{
	struct session *session = state;

	link_stream_close(session->stream, "the client has gone");
	json_decref(session->arguments);
	free(session);
}

/* The last message, then both ends go. */
static void finish(struct session *session, const json_t *message, uint16_t code)
{
	AUTO(free) char *text = json_text(message);

	ws_send(session->ws, true, text, strlen(text));
	ws_finish(TAKE_PTR(session->ws), code, "");
	session_free(session);
}

static void finish_error(struct session *session, int code, const char *words)
{
	AUTO(json_decref)
	json_t *message = json_pack("{s:{s:i, s:s}}", "error", "code", -code, "message", words);

	finish(session, message, 1008);
}

/* -- from the agent --------------------------------------------------------------------------- */

static void on_stream_data(struct link_stream *stream, enum frame_channel channel, const char *data,
			   size_t size, void *user)
{
	struct session *session = user;
	AUTO(strbuf_done) struct strbuf message = {};
	char byte = (char) channel;

	if (channel == FRAME_CHANNEL_CONTROL) {
		ws_send(session->ws, true, data, size);
		return;
	}
	strbuf_append(&message, &byte, 1);
	strbuf_append(&message, data, size);
	bool full = ws_send(session->ws, false, message.data, message.size) == 1;
	link_backlog_add(&session->backlog, stream, size, full);
}

static void on_stream_drained(struct link_stream *stream, void *user)
{
	struct session *session = user;

	(void) stream;
	ws_pause(session->ws, false);
}

static void on_stream_closed(struct link_stream *stream, const json_t *result, void *user)
{
	struct session *session = user;

	(void) stream;
	session->stream = NULL;
	finish(session, result, 1000);
}

static int open_stream(struct session *session, struct error *err)
{
	static const struct link_stream_ops ops = { on_stream_data, on_stream_drained,
						    on_stream_closed };

	return link_stream_open(session->api->link, session->arguments, &ops, session,
				&session->stream, err);
}

/* -- from the client -------------------------------------------------------------------------- */

static int check_env(const json_t *env, struct error *err)
{
	const char *name;
	json_t *value;

	if (json_object_size(env) > ENV_MAX)
		return error_say(err, -EINVAL, "env: more than %d variables", ENV_MAX);
	json_object_foreach((json_t *) env, name, value) if (
		!json_is_string(value) || !name[0] ||
		strchr(name, '=')) return error_say(err, -EINVAL,
						    "env: must be an object of names and strings");
	return 0;
}

/* The first message of exec: what to run.  Everything known goes on to the agent as it is. */
static int read_arguments(struct session *session, const json_t *body, struct error *err)
{
	struct json_reader in = { .err = err, .where = "exec" };
	AUTO(strv_free) char **command = NULL;
	AUTO(free) char *workdir = NULL;
	AUTO(free) char *user = NULL;
	json_t *env = NULL;
	uint32_t width = 0, height = 0;
	bool tty = false, detach = false;
	int r;

	json_read_strv(&in, body, "command", &command);
	json_read_object(&in, body, "env", &env);
	json_read_string(&in, body, "workdir", &workdir);
	json_read_string(&in, body, "user", &user);
	json_read_bool(&in, body, "tty", &tty);
	json_read_bool(&in, body, "detach", &detach);
	json_read_uint32(&in, body, "width", UINT16_MAX, &width);
	json_read_uint32(&in, body, "height", UINT16_MAX, &height);
	r = json_reader_finish(&in, body);
	if (r == 0 && (!command || !command[0] || !command[0][0]))
		r = error_say(err, -EINVAL, "exec.command: must be a list with at least one word");
	if (r == 0 && workdir && workdir[0] && workdir[0] != '/')
		r = error_say(err, -EINVAL, "exec.workdir: \"%.64s\" must be an absolute path",
			      workdir);
	if (r == 0)
		r = check_env(env, err);
	if (r == 0)
		json_object_update_missing(session->arguments, (json_t *) body);
	return r;
}

static int take_text(struct session *session, const char *data, size_t size, struct error *err)
{
	AUTO(json_decref) json_t *body = NULL;
	struct stream_control control;
	int r = json_parse(data, size, session->stream ? CONTROL_MAX : WS_MESSAGE_MAX, &body, err);

	if (r < 0)
		return r;
	if (!session->stream) {
		r = read_arguments(session, body, err);
		return r < 0 ? r : open_stream(session, err);
	}
	/* The agent decodes it again: it does not trust what we let pass. */
	r = stream_control_decode(body, &control, err);
	return r < 0 ? r : link_stream_control(session->stream, body);
}

static int take_binary(struct session *session, const char *data, size_t size, struct error *err)
{
	if (!session->stream)
		return error_say(err, -EINVAL, "the first message must be text: what to run");
	if (size < 1 || data[0] != FRAME_CHANNEL_IN)
		return error_say(err, -EINVAL, "binary messages must begin with channel byte 0");
	return link_stream_write(session->stream, FRAME_CHANNEL_IN, data + 1, size - 1);
}

static void on_message(struct ws *ws, bool text, const char *data, size_t size, void *user)
{
	struct session *session = user;
	struct error err = {};
	int r = text ? take_text(session, data, size, &err)
		     : take_binary(session, data, size, &err);

	if (r < 0)
		finish_error(session, r, err.msg);
	else if (r == 1)
		ws_pause(ws, true);
}

static void on_drained(struct ws *ws, void *user)
{
	struct session *session = user;

	(void) ws;
	link_backlog_drained(&session->backlog, session->stream);
}

static void on_closed(struct ws *ws, void *user)
{
	ws_free(ws);
	session_free(user);
}

/* -- begin ------------------------------------------------------------------------------------- */

static int open_socket(struct api *api, const struct ws_setup *setup, const struct ws_ops *ops,
		       struct session *session)
{
	struct error err = {};
	int r = ws_new(api->event, setup, ops, session, &session->ws, &err);

	if (r == 0)
		return 0;
	log_warning("%s", err.msg);
	setup->release(setup->release_data);
	session_free(session);
	return r;
}

static void on_exec_open(struct api *api, const struct ws_setup *setup, void *state)
{
	static const struct ws_ops ops = { on_message, on_drained, on_closed };

	open_socket(api, setup, &ops, state);
}

/* The stream's arguments are known from the start. */
static void open_at_once(struct api *api, const struct ws_setup *setup, const struct ws_ops *ops,
			 struct session *session)
{
	struct error err = {};

	if (open_socket(api, setup, ops, session) < 0)
		return;
	int r = open_stream(session, &err);
	if (r < 0)
		finish_error(session, r, err.msg);
}

static void on_attach_open(struct api *api, const struct ws_setup *setup, void *state)
{
	static const struct ws_ops ops = { on_message, on_drained, on_closed };

	open_at_once(api, setup, &ops, state);
}

static void on_logs_open(struct api *api, const struct ws_setup *setup, void *state)
{
	static const struct ws_ops ops = { .drained = on_drained, .closed = on_closed };

	open_at_once(api, setup, &ops, state);
}

/* Finds the resource and hangs a new session on the request.  *ret is NULL when it is answered. */
static int session_new(struct request *req, enum kind resource, const char *kind,
		       struct session **ret, struct control_location *location, struct error *err)
{
	struct api *api = request_api(req);
	const char *name = request_arg(req, 0);
	struct session *session;
	int r = control_locate(api->control, resource, request_project(req), name, location, err);

	*ret = NULL;
	if (r < 0) {
		reply_error(req, r, err, resource, name);
		return 0;
	}
	session = mem_new0(struct session);
	session->api = api;
	session->arguments = json_pack("{s:s, s:s}", "kind", kind, "uid", location->uid);
	request_keep(req, session, session_free);
	*ret = session;
	return 0;
}

int instance_exec(struct request *req, struct error *err)
{
	struct control_location location;
	struct session *session;
	int r = session_new(req, KIND_INSTANCE, "exec", &session, &location, err);

	if (r < 0 || !session)
		return r;
	if (!location.running)
		return error_say(err, -EBUSY, "instance %s: is not running", request_arg(req, 0));
	return request_upgrade(req, on_exec_open, err);
}

/* Which part of the log, and how. */
static int read_log_query(struct request *req, json_t *arguments, struct error *err)
{
	static const char *const flags[] = { "timestamps", "cursors" };
	static const char *const times[] = { "since_ms", "until_ms" };
	static const char *const streams[] = { "stdout", "stderr" };
	const char *cursor = request_query(req, "cursor");
	int64_t tail = -1;
	int r = request_query_int(req, "tail", -1, INT32_MAX, &tail, err);

	json_object_set_new(arguments, "tail", json_integer(tail));
	for (size_t i = 0; r == 0 && i < ARRAY_COUNT(flags); i++) {
		bool on = false;

		r = request_query_bool(req, flags[i], &on, err);
		json_object_set_new(arguments, flags[i], json_boolean(on));
	}
	for (size_t i = 0; r == 0 && i < ARRAY_COUNT(times); i++) {
		int64_t ms = 0;

		r = request_query_int(req, times[i], 0, TIME_MAX_MS, &ms, err);
		json_object_set_new(arguments, times[i], json_integer(ms));
	}
	for (size_t i = 0; r == 0 && i < ARRAY_COUNT(streams); i++) {
		bool on = true;

		r = request_query_bool(req, streams[i], &on, err);
		json_object_set_new(arguments, streams[i], json_boolean(on));
	}
	if (r == 0 && cursor)
		json_object_set_new(arguments, "cursor", json_string(cursor));
	return r;
}

int instance_logs(struct request *req, struct error *err)
{
	AUTO(json_decref) json_t *query = json_object();
	struct control_location location;
	struct session *session;
	bool follow = false;
	int r = request_query_bool(req, "follow", &follow, err);

	if (r == 0)
		r = read_log_query(req, query, err);
	if (r == 0)
		r = session_new(req, KIND_INSTANCE, "logs", &session, &location, err);
	if (r < 0 || !session)
		return r;
	json_object_update_missing(session->arguments, query);
	json_object_set_new(session->arguments, "follow", json_boolean(follow));
	return request_upgrade(req, on_logs_open, err);
}

int network_flows(struct request *req, struct error *err)
{
	static const char *const flags[] = { "follow", "open" };
	AUTO(json_decref) json_t *query = json_object();
	struct control_location location;
	struct session *session;
	int r = read_log_query(req, query, err);

	for (size_t i = 0; r == 0 && i < ARRAY_COUNT(flags); i++) {
		bool on = false;

		r = request_query_bool(req, flags[i], &on, err);
		json_object_set_new(query, flags[i], json_boolean(on));
	}
	if (r == 0)
		r = session_new(req, KIND_NETWORK, "flows", &session, &location, err);
	if (r < 0 || !session)
		return r;
	json_object_update_missing(session->arguments, query);
	return request_upgrade(req, on_logs_open, err);
}

int instance_attach(struct request *req, struct error *err)
{
	static const char *const sizes[] = { "width", "height" };
	AUTO(json_decref) json_t *query = json_object();
	struct control_location location;
	struct session *session;
	bool input = false, wait = false;
	int r = read_log_query(req, query, err);

	if (r == 0)
		r = request_query_bool(req, "stdin", &input, err);
	if (r == 0)
		r = request_query_bool(req, "wait", &wait, err);
	for (size_t i = 0; r == 0 && i < ARRAY_COUNT(sizes); i++) {
		int64_t size = 0;

		r = request_query_int(req, sizes[i], 0, UINT16_MAX, &size, err);
		json_object_set_new(query, sizes[i], json_integer(size));
	}
	if (r == 0)
		r = session_new(req, KIND_INSTANCE, "attach", &session, &location, err);
	if (r < 0 || !session)
		return r;
	if (!location.running && !wait)
		return error_say(err, -EBUSY, "instance %s: is not running", request_arg(req, 0));
	json_object_update_missing(session->arguments, query);
	json_object_set_new(session->arguments, "stdin", json_boolean(input));
	json_object_set_new(session->arguments, "wait", json_boolean(wait));
	return request_upgrade(req, on_attach_open, err);
}
