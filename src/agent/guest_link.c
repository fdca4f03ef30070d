#include "agent/guest_link.h"

#include <errno.h>
#include <string.h>
#include <uthash.h>

#include "base/conn.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"

enum {
	PROTOCOL = 1,
	OUT_HIGH = 1 << 20,
	OUT_MAX = 8 << 20,
	EXIT_MAX = 255,
	ERRNO_MAX = 4095,
	HELLOS_MAX = 64,
};

struct guest_call {
	UT_hash_handle hh;
	struct guest_link *link;
	uint64_t id;
	const struct guest_call_ops *ops; /* NULL: closed here, the guest's close is awaited */
	void *data;
	size_t send_credit, receive_credit;
};

struct guest_link {
	struct conn *conn;
	const struct guest_link_ops *ops;
	void *data;
	struct guest_call *calls;
	uint64_t last_id;
	uint64_t connection; /* 0: not on a port */
	bool ready;
	unsigned int hellos; /* of ours */
	bool *gone;          /* of the function that hands bytes out: it was freed meanwhile */
	enum guest_state state;
	char *error;
	bool breach;        /* it does not go on because the guest broke the protocol */
	struct error ended; /* why it does not go on, when that is the guest's doing */
	struct error
		leftovers; /* what came instead of a hello: it may be an earlier connection's */
};

static const char *const state_names[] = { "booting", "running", "ending", NULL };

/* ---- calls ---- */

static void forget(struct guest_call *call)
{
	HASH_DEL(call->link->calls, call);
	free(call);
}

static int send_frame(struct guest_link *link, const struct strbuf *frame)
{
	int r = conn_write(link->conn, frame->data, frame->size);

	return r < 0 ? r : 0;
}

static void end_call(struct guest_call *call, int64_t exit_code, const struct error *err)
{
	const struct guest_call_ops *ops = call->ops;
	void *data = call->data;

	forget(call);
	if (ops)
		ops->closed(data, exit_code, err);
}

size_t guest_call_credit(const struct guest_call *call)
{
	return call->send_credit;
}

int guest_call_send(struct guest_call *call, enum frame_channel channel, const void *bytes,
		    size_t size)
{
	AUTO(strbuf_done) struct strbuf frame = {};
	int r;

	if (channel != FRAME_CHANNEL_CONTROL && size > call->send_credit)
		return -ENOBUFS;
	frame_append_data(&frame, call->id, channel, bytes, size);
	r = send_frame(call->link, &frame);
	if (r == 0 && channel != FRAME_CHANNEL_CONTROL)
		call->send_credit -= size;
	return r;
}

void guest_call_grant(struct guest_call *call, size_t bytes)
{
	AUTO(strbuf_done) struct strbuf frame = {};

	if (bytes == 0)
		return;
	call->receive_credit += bytes;
	frame_append_credit(&frame, call->id, (uint32_t) bytes);
	(void) send_frame(call->link, &frame);
}

static void send_close(struct guest_call *call, const char *why)
{
	AUTO(strbuf_done) struct strbuf frame = {};
	AUTO(json_decref) json_t *body = json_object();

	if (why)
		json_object_set_new(body, "error",
				    json_pack("{s:i, s:s}", "code", ECANCELED, "message", why));
	(void) frame_append_json(&frame, FRAME_STREAM_CLOSE, call->id, body);
	(void) send_frame(call->link, &frame);
}

void guest_call_free(struct guest_call *call)
{
	if (!call)
		return;
	call->ops = NULL;
	send_close(call, "nobody waits for it any more");
}

int guest_call_new(struct guest_link *link, const json_t *arguments,
		   const struct guest_call_ops *ops, void *data, struct guest_call **ret,
		   struct error *err)
{
	AUTO(strbuf_done) struct strbuf frame = {};
	struct guest_call *call;

	if (!link->ready)
		return error_say(err, -EAGAIN, "the guest has not said hello yet");
	if (HASH_COUNT(link->calls) >= GUEST_CALLS_MAX)
		return error_say(err, -EBUSY,
				 "the guest has %d commands and copies under way, which is all "
				 "that it can have",
				 GUEST_CALLS_MAX);
	if (frame_append_json(&frame, FRAME_STREAM_OPEN, link->last_id + 1, arguments) < 0)
		return error_say(err, -E2BIG, "the command and its environment are too long");
	if (send_frame(link, &frame) < 0)
		return error_say(err, -EIO, "the guest does not take anything any more");
	call = mem_new0(struct guest_call);
	call->link = link;
	call->id = ++link->last_id;
	call->ops = ops;
	call->data = data;
	call->send_credit = call->receive_credit = FRAME_CREDIT_INITIAL;
	HASH_ADD(hh, link->calls, id, sizeof(call->id), call);
	*ret = call;
	return 0;
}

/* ---- what the guest says ---- */

/* A guest's text for people: printable, and cut. */
static char *printable(const char *text)
{
	AUTO(strbuf_done) struct strbuf out = {};

	strbuf_put_printable(&out, text, strnlen(text, GUEST_TEXT_MAX));
	return strbuf_take(&out);
}

static int read_state(struct guest_link *link, const json_t *body, struct error *err)
{
	const char *name = json_string_value(json_object_get(body, "state"));
	const char *text = json_string_value(json_object_get(body, "error"));

	for (size_t i = 0; name && state_names[i]; i++)
		if (strcmp(name, state_names[i]) == 0) {
			link->state = (enum guest_state) i;
			free(link->error);
			link->error = text ? printable(text) : NULL;
			return 0;
		}
	return error_say(err, -EPROTO, "the guest tells a state that there is not");
}

static int say_hello(struct guest_link *link)
{
	AUTO(strbuf_done) struct strbuf frame = {};
	AUTO(json_decref) json_t *body = json_pack("{s:i}", "protocol", PROTOCOL);

	if (link->connection)
		json_object_set_new(body, "connection",
				    json_integer((json_int_t) link->connection));
	link->hellos++;
	(void) frame_append_json(&frame, FRAME_HELLO, link->connection, body);
	return send_frame(link, &frame);
}

/* It has lost the framing, by what an earlier connection has left; or this connection. */
static int on_anew(struct guest_link *link, struct error *err)
{
	if (link->ready)
		return error_say(err, -ECONNRESET, "the guest has lost the connection");
	if (link->hellos == HELLOS_MAX)
		return error_say(err, -EPROTO, "the guest begins anew again and again");
	return say_hello(link);
}

/* What is in it besides is not needed; a later brume-init may say more.  1: it is ready now. */
static int on_hello(struct guest_link *link, const struct frame *frame, struct error *err)
{
	AUTO(json_decref) json_t *body = NULL;
	const json_t *connection;
	int r = frame_json(frame, &body, err);

	if (r < 0)
		return r;
	connection = link->connection ? json_object_get(body, "connection") : NULL;
	if (connection && json_integer_value(connection) == 0)
		return on_anew(link, err);
	/* A late answer to an earlier connection. */
	if (connection && (uint64_t) json_integer_value(connection) != link->connection)
		return 0;
	if (link->ready)
		return error_say(err, -EPROTO, "the guest says hello twice");
	if (json_integer_value(json_object_get(body, "protocol")) != PROTOCOL)
		return error_say(err, -EPROTO, "the guest speaks another protocol than %d",
				 PROTOCOL);
	r = read_state(link, body, err);
	if (r == 0 && link->hellos == 0)
		r = say_hello(link);
	link->ready = r == 0;
	return r < 0 ? r : 1;
}

static int on_status(struct guest_link *link, const struct frame *frame, struct error *err)
{
	AUTO(json_decref) json_t *body = NULL;
	int r = frame_json(frame, &body, err);

	return r < 0 ? r : read_state(link, body, err);
}

static int on_data(struct guest_call *call, const struct frame *frame, struct error *err)
{
	enum frame_channel channel;
	const char *bytes;
	size_t size;
	int r = frame_data(frame, &channel, &bytes, &size, err);

	if (r < 0)
		return r;
	if (channel != FRAME_CHANNEL_OUT && channel != FRAME_CHANNEL_ERR)
		return error_say(err, -EPROTO, "the guest sends on channel %d", (int) channel);
	if (size > call->receive_credit)
		return error_say(err, -EPROTO, "the guest sends more than it may");
	call->receive_credit -= size;
	if (call->ops)
		call->ops->received(call->data, channel, bytes, size);
	else
		guest_call_grant(call, size);
	return 0;
}

static int on_credit(struct guest_call *call, const struct frame *frame, struct error *err)
{
	uint32_t bytes;
	int r = frame_credit(frame, &bytes, err);

	if (r < 0)
		return r;
	if (bytes > FRAME_CREDIT_INITIAL || call->send_credit + bytes > FRAME_CREDIT_INITIAL)
		return error_say(err, -EPROTO, "the guest gives more credit than was used");
	call->send_credit += bytes;
	if (call->ops && call->ops->writable)
		call->ops->writable(call->data);
	return 0;
}

/* {"exit_code": N} or {"error": {"code", "message"}}, or both. */
static int on_close(struct guest_call *call, const struct frame *frame, struct error *err)
{
	AUTO(json_decref) json_t *body = NULL;
	struct error said = {};
	int r = frame_json(frame, &body, err);

	if (r < 0)
		return r;
	const json_t *error = json_object_get(body, "error");
	const json_t *code = json_object_get(body, "exit_code");
	json_int_t exit_code = json_is_integer(code) ? json_integer_value(code) : -1;
	if (exit_code < -1 || exit_code > EXIT_MAX)
		return error_say(err, -EPROTO, "the guest tells an exit code that there is not");
	if (error) {
		const char *text = json_string_value(json_object_get(error, "message"));
		json_int_t number = json_integer_value(json_object_get(error, "code"));
		AUTO(free) char *words = printable(text ? text : "it says no more");

		error_say(&said, number > 0 && number <= ERRNO_MAX ? -(int) number : -EIO, "%s",
			  words);
	}
	if (call->ops)
		send_close(call, NULL);
	end_call(call, exit_code, error ? &said : NULL);
	return 0;
}

/* Before it is ready; on a port, what is no hello may be what an earlier connection has left. */
static int on_first(struct guest_link *link, const struct frame *frame, struct error *err)
{
	struct error *why = link->connection ? &link->leftovers : err;

	if (frame->type == FRAME_HELLO)
		return on_hello(link, frame, err);
	if (why->code == 0)
		error_say(why, -EPROTO, "the guest does not say hello first");
	return link->connection ? 0 : -EPROTO;
}

static int on_call(struct guest_link *link, const struct frame *frame, struct error *err)
{
	struct guest_call *call;

	HASH_FIND(hh, link->calls, &frame->id, sizeof(frame->id), call);
	if (!call)
		return error_say(err, -EPROTO, "the guest sends %s for a stream that is not open",
				 frame_type_name(frame->type));
	switch (frame->type) {
	case FRAME_STREAM_DATA:
		return on_data(call, frame, err);
	case FRAME_STREAM_CREDIT:
		return on_credit(call, frame, err);
	case FRAME_STREAM_CLOSE:
		return on_close(call, frame, err);
	default:
		return error_say(err, -EPROTO, "the guest sends %s", frame_type_name(frame->type));
	}
}

static int on_frame(const struct frame *frame, void *data, struct error *err)
{
	struct guest_link *link = data;
	bool *gone = link->gone;
	bool tells = false;
	int r;

	if (!link->ready || frame->type == FRAME_HELLO) {
		r = on_first(link, frame, err);
		tells = r > 0;
	} else if (frame->type == FRAME_STATUS) {
		r = on_status(link, frame, err);
		tells = r == 0;
	} else {
		r = on_call(link, frame, err);
	}
	if (tells && !*gone)
		link->ops->told(link->data);
	if (*gone)
		return -ECANCELED;
	if (r < 0)
		link->ended = *err;
	return r < 0 ? r : 0;
}

/* ---- the connection ---- */

/* Its calls hear of it first; then the owner, who frees it. */
static void lose(struct guest_link *link, const struct error *why)
{
	struct guest_call *call, *next;
	bool gone = false, *outer = link->gone;

	link->gone = &gone;
	link->ready = false;
	HASH_ITER(hh, link->calls, call, next)
	{
		end_call(call, -1, why);
		if (gone)
			break;
	}
	if (!gone)
		link->ops->lost(link->data, why);
	if (!gone)
		link->gone = outer;
	else if (outer)
		*outer = true;
}

/* Wherever the answer to our hello begins: what is before it is an earlier connection's. */
static void seek_answer(const struct guest_link *link, struct strbuf *in)
{
	size_t at = frame_find(in->data, in->size, FRAME_HELLO, link->connection);

	if (at != SIZE_MAX)
		strbuf_consume(in, at);
}

/* The middle of a frame of an earlier connection: only our number can be found behind it. */
static void drop_garbage(struct guest_link *link, struct strbuf *in, const struct error *err)
{
	if (link->leftovers.code == 0)
		link->leftovers = *err;
	if (in->size >= FRAME_HEADER_SIZE)
		strbuf_consume(in, in->size - FRAME_HEADER_SIZE + 1);
}

static int on_read(struct conn *conn, struct strbuf *in, void *data)
{
	struct guest_link *link = data;
	struct error err = {};
	bool gone = false;
	int r;

	(void) conn;
	if (link->connection && !link->ready)
		seek_answer(link, in);
	link->gone = &gone;
	r = frame_read_all(in, on_frame, link, &err);
	if (gone)
		return 0;
	link->gone = NULL;
	/* Not what a frame says, but that it is none. */
	if (r < 0 && link->ended.code == 0 && link->connection && !link->ready) {
		drop_garbage(link, in, &err);
		return 0;
	}
	if (r < 0) {
		link->ended = err;
		link->breach = r == -EPROTO;
	}
	return r;
}

static void on_drained(struct conn *conn, void *data)
{
	struct guest_link *link = data;
	struct guest_call *call, *next;
	bool gone = false, *outer = link->gone;

	(void) conn;
	link->gone = &gone;
	HASH_ITER(hh, link->calls, call, next)
	{
		if (call->ops && call->ops->writable)
			call->ops->writable(call->data);
		if (gone) {
			if (outer)
				*outer = true;
			return;
		}
	}
	link->gone = outer;
}

static void on_closed(struct conn *conn, int reason, void *data)
{
	struct guest_link *link = data;
	struct error why = {};

	(void) conn;
	if (link->ended.code < 0)
		why = link->ended;
	else if (reason < 0)
		error_set(&why, reason, "the connection to the guest broke");
	else
		error_say(&why, -ECONNRESET, "the guest has ended the connection");
	lose(link, &why);
}

int guest_link_new(sd_event *event, int fd, uint64_t connection, const struct guest_link_ops *ops,
		   void *data, struct guest_link **ret, struct error *err)
{
	static const struct conn_ops conn_ops = { on_read, on_drained, on_closed };
	static const struct conn_limits limits = { FRAME_IN_MAX, OUT_HIGH, OUT_MAX };
	struct guest_link *link = mem_new0(struct guest_link);
	int r;

	link->connection = connection;
	link->ops = ops;
	link->data = data;
	r = conn_new(event, fd, &limits, &conn_ops, link, &link->conn, err);
	if (r < 0) {
		free(link);
		return r;
	}
	*ret = link;
	/* Should it fail, the connection's end is told soon. */
	if (connection)
		(void) say_hello(link);
	return 0;
}

void guest_link_give_up(struct guest_link *link)
{
	link->breach = link->leftovers.code < 0;
	if (link->breach)
		link->ended = link->leftovers;
	else
		error_say(&link->ended, -ETIMEDOUT, "the guest does not answer");
	const struct error why = link->ended;
	lose(link, &why);
}

bool guest_link_ready(const struct guest_link *link)
{
	return link->ready;
}

enum guest_state guest_link_state(const struct guest_link *link)
{
	return link->state;
}

bool guest_link_broken(const struct guest_link *link)
{
	return link->breach;
}

const char *guest_link_error(const struct guest_link *link)
{
	return link->error;
}

void guest_link_free(struct guest_link *link)
{
	struct error why = {};

	if (!link)
		return;
	if (link->gone)
		*link->gone = true;
	link->gone = NULL;
	link->ready = false;
	error_say(&why, -ECONNRESET, "the virtual machine has just ended");
	while (link->calls)
		end_call(link->calls, -1, &why);
	conn_free(link->conn);
	free(link->error);
	free(link);
}
