#include "api/ws.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/base64.h>
#include <nettle/sha1.h>
#include <string.h>
#include <wslay/wslay.h>

#include "base/conn.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"

enum {
	IN_MAX = 256 * 1024,
	OUT_HIGH = 256 * 1024,
	OUT_MAX = 8 * 1024 * 1024,
	KEY_BYTES = 16,
	FINISH_US = 5 * 1000 * 1000,
};

struct ws {
	struct conn *conn;
	wslay_event_context_ptr wslay;
	sd_event_source *timer;
	sd_event_source *again; /* looks at `in` once more after a pause */
	const struct ws_ops *ops;
	void *user;
	uint64_t ping_us;
	ws_release_fn release;
	void *release_data;
	struct ws_list *list;
	struct ws *prev, *next;

	struct strbuf in; /* received, not yet given to wslay */
	size_t in_used;
	struct strbuf out; /* of one round of wslay */
	bool full;
	bool paused;
	bool heard; /* something came since the last tick of the timer */
	bool pinged;
	bool detached; /* ws_finish(): no owner any more */
	bool ended;
	unsigned int depth; /* callbacks under way: ws_free() only marks */
	bool freed;
};

static void list_add(struct ws_list *list, struct ws *ws)
{
	ws->list = list;
	ws->next = list->first;
	if (ws->next)
		ws->next->prev = ws;
	list->first = ws;
}

static void list_remove(struct ws *ws)
{
	if (!ws->list)
		return;
	if (ws->prev)
		ws->prev->next = ws->next;
	else
		ws->list->first = ws->next;
	if (ws->next)
		ws->next->prev = ws->prev;
}

static void release_ws(struct ws *ws)
{
	list_remove(ws);
	sd_event_source_disable_unref(ws->timer);
	sd_event_source_disable_unref(ws->again);
	conn_free(ws->conn);
	if (ws->wslay)
		wslay_event_context_free(ws->wslay);
	if (ws->release)
		ws->release(ws->release_data);
	strbuf_done(&ws->in);
	strbuf_done(&ws->out);
	free(ws);
}

static void enter(struct ws *ws)
{
	ws->depth++;
}

static void leave(struct ws *ws)
{
	if (--ws->depth == 0 && ws->freed)
		release_ws(ws);
}

/* Tells the owner once; a ws without owner ends itself. */
static void end(struct ws *ws)
{
	if (ws->ended)
		return;
	ws->ended = true;
	if (ws->detached)
		ws_free(ws);
	else
		ws->ops->closed(ws, ws->user);
}

static ssize_t on_wslay_recv(wslay_event_context_ptr wslay, uint8_t *data, size_t size, int flags,
			     void *user)
{
	struct ws *ws = user;
	size_t room = ws->in.size - ws->in_used;
	size_t n = room < size ? room : size;

	(void) flags;
	if (n == 0 || ws->paused || ws->freed || ws->ended) {
		wslay_event_set_error(wslay, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	memcpy(data, ws->in.data + ws->in_used, n);
	ws->in_used += n;
	return (ssize_t) n;
}

static ssize_t on_wslay_send(wslay_event_context_ptr wslay, const uint8_t *data, size_t size,
			     int flags, void *user)
{
	struct ws *ws = user;

	(void) flags;
	(void) wslay;
	strbuf_append(&ws->out, data, size);
	return (ssize_t) size;
}

static void on_wslay_message(wslay_event_context_ptr wslay,
			     const struct wslay_event_on_msg_recv_arg *arg, void *user)
{
	struct ws *ws = user;

	(void) wslay;
	if (ws->detached || ws->freed || ws->ended)
		return;
	if (ws->ops->message &&
	    (arg->opcode == WSLAY_TEXT_FRAME || arg->opcode == WSLAY_BINARY_FRAME))
		ws->ops->message(ws, arg->opcode == WSLAY_TEXT_FRAME, (const char *) arg->msg,
				 arg->msg_length, ws->user);
}

/* Moves wslay's frames to the connection.  Ends the connection after the closing handshake. */
static int flush(struct ws *ws)
{
	int r = wslay_event_send(ws->wslay) == 0 ? 0 : -EPIPE;

	if (r == 0 && ws->out.size > 0)
		r = conn_write(ws->conn, ws->out.data, ws->out.size);
	strbuf_done(&ws->out);
	if (r == 1)
		ws->full = true;
	if (r >= 0 && !wslay_event_want_read(ws->wslay) && !wslay_event_want_write(ws->wslay))
		conn_finish(ws->conn);
	return r;
}

static void process(struct ws *ws)
{
	enter(ws);
	int r = wslay_event_recv(ws->wslay) == 0 ? 0 : -EPROTO;

	strbuf_consume(&ws->in, ws->in_used);
	ws->in_used = 0;
	if (ws->in.size == 0)
		strbuf_done(&ws->in);
	if (!ws->freed && !ws->ended && flush(ws) < 0)
		end(ws);
	/* Bytes that are no frames: nothing more is read, the close frame is still sent. */
	else if (r < 0 && !ws->freed && !ws->ended)
		conn_finish(ws->conn);
	leave(ws);
}

static int on_conn_read(struct conn *conn, struct strbuf *in, void *user)
{
	struct ws *ws = user;

	(void) conn;
	strbuf_append(&ws->in, in->data, in->size);
	strbuf_consume(in, in->size);
	ws->heard = true;
	process(ws);
	return 0;
}

static void on_conn_drained(struct conn *conn, void *user)
{
	struct ws *ws = user;

	(void) conn;
	ws->full = false;
	if (ws->detached || ws->ended || !ws->ops->drained)
		return;
	enter(ws);
	ws->ops->drained(ws, ws->user);
	leave(ws);
}

static void on_conn_closed(struct conn *conn, int reason, void *user)
{
	struct ws *ws = user;

	(void) conn;
	(void) reason;
	enter(ws);
	end(ws);
	leave(ws);
}

static int on_again(sd_event_source *source, void *user)
{
	(void) source;
	process(user);
	return 0;
}

static void arm_timer(struct ws *ws, uint64_t delay_us)
{
	sd_event_source_set_time_relative(ws->timer, delay_us);
	sd_event_source_set_enabled(ws->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *user)
{
	struct ws *ws = user;
	struct wslay_event_msg ping = { .opcode = WSLAY_PING };

	(void) source;
	(void) usec;
	enter(ws);
	/* A peer that we do not listen to cannot answer. */
	bool silent = ws->pinged && !ws->heard && !ws->paused;
	ws->heard = false;
	ws->pinged = true;
	arm_timer(ws, ws->ping_us);
	if (silent || ws->detached)
		end(ws);
	else if (!ws->full && (wslay_event_queue_msg(ws->wslay, &ping) != 0 || flush(ws) < 0))
		end(ws);
	leave(ws);
	return 0;
}

int ws_accept_key(const char *key, char ret[WS_ACCEPT_SIZE])
{
	static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	uint8_t raw[BASE64_DECODE_LENGTH(24) + 3];
	size_t raw_size = sizeof(raw);
	struct base64_decode_ctx decode;
	uint8_t digest[SHA1_DIGEST_SIZE];
	struct sha1_ctx sha1;

	base64_decode_init(&decode);
	if (strlen(key) != 24 || !base64_decode_update(&decode, &raw_size, raw, 24, key) ||
	    !base64_decode_final(&decode) || raw_size != KEY_BYTES)
		return -EINVAL;
	sha1_init(&sha1);
	sha1_update(&sha1, 24, (const uint8_t *) key);
	sha1_update(&sha1, sizeof(magic) - 1, (const uint8_t *) magic);
	sha1_digest(&sha1, sizeof(digest), digest);
	base64_encode_raw(ret, sizeof(digest), digest);
	ret[WS_ACCEPT_SIZE - 1] = '\0';
	return 0;
}

int ws_new(sd_event *event, const struct ws_setup *setup, const struct ws_ops *ops, void *user,
	   struct ws **ret, struct error *err)
{
	static const struct wslay_event_callbacks callbacks = {
		.recv_callback = on_wslay_recv,
		.send_callback = on_wslay_send,
		.on_msg_recv_callback = on_wslay_message,
	};
	static const struct conn_ops conn_ops = { on_conn_read, on_conn_drained, on_conn_closed };
	static const struct conn_limits limits = { IN_MAX, OUT_HIGH, OUT_MAX };
	AUTO(ws_free) struct ws *ws = mem_new0(struct ws);
	/* The conn closes its own descriptor; the HTTP library closes the one it lent us. */
	AUTO(fd_close) int fd = fcntl(setup->fd, F_DUPFD_CLOEXEC, 3);
	int r;

	ws->ops = ops;
	ws->user = user;
	ws->ping_us = setup->ping_us;
	if (fd < 0)
		return error_set(err, -errno, "WebSocket");
	r = conn_new(event, fd, &limits, &conn_ops, ws, &ws->conn, err);
	if (r < 0)
		return r;
	TAKE_FD(fd);
	if (wslay_event_context_server_init(&ws->wslay, &callbacks, ws) != 0)
		return error_set(err, -ENOMEM, "WebSocket");
	wslay_event_config_set_max_recv_msg_length(ws->wslay, WS_MESSAGE_MAX);
	r = sd_event_add_time_relative(event, &ws->timer, CLOCK_MONOTONIC, ws->ping_us, 0, on_timer,
				       ws);
	if (r >= 0)
		r = sd_event_add_defer(event, &ws->again, on_again, ws);
	if (r < 0)
		return error_set(err, r, "WebSocket");
	strbuf_append(&ws->in, setup->extra, setup->extra_size);
	if (setup->extra_size == 0)
		sd_event_source_set_enabled(ws->again, SD_EVENT_OFF);
	ws->release = setup->release;
	ws->release_data = setup->release_data;
	list_add(setup->list, ws);
	*ret = TAKE_PTR(ws);
	return 0;
}

int ws_send(struct ws *ws, bool text, const void *data, size_t size)
{
	struct wslay_event_msg message = { .opcode = text ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME,
					   .msg = data,
					   .msg_length = size };

	if (ws->freed || ws->ended || ws->detached)
		return -EPIPE;
	if (conn_queued(ws->conn) + size + 64 > OUT_MAX)
		return -ENOBUFS;
	if (wslay_event_queue_msg(ws->wslay, &message) != 0)
		return -EPIPE;
	int r = flush(ws);
	return r < 0 ? -EPIPE : ws->full;
}

void ws_pause(struct ws *ws, bool paused)
{
	if (ws->paused == paused || ws->freed || ws->ended)
		return;
	ws->paused = paused;
	ws->heard = true;
	conn_pause(ws->conn, paused);
	if (!paused && ws->in.size > ws->in_used)
		sd_event_source_set_enabled(ws->again, SD_EVENT_ONESHOT);
}

void ws_finish(struct ws *ws, uint16_t code, const char *reason)
{
	if (ws->freed)
		return;
	enter(ws);
	ws_pause(ws, false);
	ws->detached = true;
	wslay_event_queue_close(ws->wslay, code, (const uint8_t *) reason, strlen(reason));
	if (ws->ended || flush(ws) < 0)
		ws_free(ws);
	else
		arm_timer(ws, FINISH_US);
	leave(ws);
}

void ws_end_all(struct ws_list *list)
{
	while (list->first) {
		struct ws *ws = list->first;

		enter(ws);
		end(ws);
		ws->freed = true; /* whatever the owner thinks */
		leave(ws);
	}
}

void ws_free(struct ws *ws)
{
	if (!ws)
		return;
	ws->freed = true;
	if (ws->depth == 0)
		release_ws(ws);
}
