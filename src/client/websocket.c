#include "client/websocket.h"

#include <errno.h>
#include <nettle/base64.h>
#include <nettle/sha1.h>
#include <poll.h>
#include <string.h>
#include <wslay/wslay.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "client/transport.h"

struct websocket {
	struct transport *transport;
	wslay_event_context_ptr wslay;
	struct strbuf early; /* came together with the answer to the upgrade */
	websocket_message_fn fn;
	void *userdata;
	struct error *err; /* of the call that runs */
	struct error send_err;
	int result; /* first error of a callback */
	bool ended; /* the connection is at its end */
};

static ssize_t websocket_recv_callback(wslay_event_context_ptr wslay, uint8_t *data, size_t size,
				       int flags, void *userdata)
{
	struct websocket *websocket = userdata;
	ssize_t n;

	(void) flags;
	if (websocket->early.size > 0) {
		n = (ssize_t) (size < websocket->early.size ? size : websocket->early.size);
		memcpy(data, websocket->early.data, (size_t) n);
		strbuf_consume(&websocket->early, (size_t) n);
		return n;
	}
	n = websocket->result < 0
		    ? websocket->result
		    : transport_try_read(websocket->transport, data, size, websocket->err);
	if (n > 0)
		return n;
	if (n == -EAGAIN) {
		wslay_event_set_error(wslay, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	websocket->ended = true;
	if (websocket->result == 0 && n != -ECONNRESET)
		websocket->result = (int) n;
	wslay_event_set_error(wslay, WSLAY_ERR_CALLBACK_FAILURE);
	return -1;
}

static ssize_t websocket_send_callback(wslay_event_context_ptr wslay, const uint8_t *data,
				       size_t size, int flags, void *userdata)
{
	struct websocket *websocket = userdata;
	ssize_t n = transport_try_write(websocket->transport, data, size, &websocket->send_err);

	(void) flags;
	if (n >= 0)
		return n;
	/* What a server that hung up had said before may still be there to read: that comes first.
	 */
	if (n == -EPIPE || n == -ECONNRESET)
		websocket->send_err.code = 0;
	wslay_event_set_error(wslay,
			      n == -EAGAIN ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
	return -1;
}

static int websocket_mask_callback(wslay_event_context_ptr wslay, uint8_t *data, size_t size,
				   void *userdata)
{
	struct rng *rng = rng_system();

	(void) wslay;
	(void) userdata;
	rng->fill(rng, data, size);
	return 0;
}

static void websocket_message_callback(wslay_event_context_ptr wslay,
				       const struct wslay_event_on_msg_recv_arg *arg,
				       void *userdata)
{
	struct websocket *websocket = userdata;
	AUTO(free) char *text = NULL;

	(void) wslay;
	if (websocket->result < 0 || !websocket->fn || wslay_is_ctrl_frame(arg->opcode))
		return;
	if (arg->opcode == WSLAY_TEXT_FRAME)
		text = mem_strndup((const char *) arg->msg, arg->msg_length);
	websocket->result = websocket->fn(websocket->userdata, text != NULL,
					  text ? text : (const char *) arg->msg, arg->msg_length,
					  websocket->err);
}

int websocket_new(struct transport *transport, const void *early, size_t early_size,
		  struct websocket **ret, struct error *err)
{
	static const struct wslay_event_callbacks callbacks = {
		.recv_callback = websocket_recv_callback,
		.send_callback = websocket_send_callback,
		.genmask_callback = websocket_mask_callback,
		.on_msg_recv_callback = websocket_message_callback,
	};
	AUTO(websocket_free) struct websocket *websocket = mem_new0(struct websocket);

	websocket->transport = transport;
	strbuf_append(&websocket->early, early, early_size);
	if (wslay_event_context_client_init(&websocket->wslay, &callbacks, websocket) < 0)
		return error_set(err, -ENOMEM, "cannot begin a WebSocket");
	wslay_event_config_set_max_recv_msg_length(websocket->wslay, WEBSOCKET_MESSAGE_MAX);
	*ret = TAKE_PTR(websocket);
	return 0;
}

void websocket_set_handler(struct websocket *websocket, websocket_message_fn fn, void *userdata)
{
	websocket->fn = fn;
	websocket->userdata = userdata;
}

int websocket_send(struct websocket *websocket, bool text, const void *data, size_t size,
		   struct error *err)
{
	struct wslay_event_msg message = {
		.opcode = text ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME,
		.msg = data,
		.msg_length = size,
	};

	if (wslay_event_queue_msg(websocket->wslay, &message) < 0)
		return error_say(err, -EPIPE, "the server has closed the stream");
	return 0;
}

size_t websocket_queued_bytes(const struct websocket *websocket)
{
	return wslay_event_get_queued_msg_length(websocket->wslay);
}

int websocket_fd(const struct websocket *websocket)
{
	return transport_fd(websocket->transport);
}

short websocket_events(const struct websocket *websocket)
{
	short events = 0;

	if (websocket->early.size > 0 || transport_pending(websocket->transport))
		return 0;
	if (wslay_event_want_read(websocket->wslay))
		events |= POLLIN;
	if (wslay_event_want_write(websocket->wslay))
		events |= POLLOUT;
	return events;
}

int websocket_process(struct websocket *websocket, struct error *err)
{
	wslay_event_context_ptr wslay = websocket->wslay;
	int r = 0;

	websocket->err = err;
	if (wslay_event_want_write(wslay))
		wslay_event_send(wslay);
	if (wslay_event_want_read(wslay))
		r = wslay_event_recv(wslay);
	if (wslay_event_want_write(wslay))
		wslay_event_send(wslay);
	websocket->err = NULL;
	if (wslay_event_get_close_received(wslay)) {
		if (websocket->result == 0 &&
		    wslay_event_get_status_code_received(wslay) == WSLAY_CODE_INTERNAL_SERVER_ERROR)
			return error_say(
				err, -EIO,
				"the server ended the stream because of an error of its own");
		return websocket->result < 0 && !websocket->ended ? websocket->result : 1;
	}
	if (websocket->result < 0)
		return websocket->result;
	if (websocket->send_err.code < 0)
		return error_say(err, websocket->send_err.code, "%s", websocket->send_err.msg);
	if (websocket->ended)
		return error_say(err, -ECONNRESET, "the server closed the stream without a word");
	if (wslay_event_get_close_sent(wslay) && !wslay_event_want_read(wslay))
		return error_say(err, -EPROTO, "the server broke the WebSocket protocol");
	return r < 0 ? error_say(err, -EPROTO, "the server broke the WebSocket protocol") : 0;
}

void websocket_close(struct websocket *websocket)
{
	wslay_event_queue_close(websocket->wslay, WSLAY_CODE_NORMAL_CLOSURE, NULL, 0);
}

void websocket_free(struct websocket *websocket)
{
	if (!websocket)
		return;
	if (websocket->wslay)
		wslay_event_context_free(websocket->wslay);
	strbuf_done(&websocket->early);
	transport_free(websocket->transport);
	free(websocket);
}

void websocket_accept_key(const char *key, char ret[WEBSOCKET_ACCEPT_SIZE])
{
	static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	uint8_t digest[SHA1_DIGEST_SIZE];
	struct sha1_ctx sha1;

	sha1_init(&sha1);
	sha1_update(&sha1, strlen(key), (const uint8_t *) key);
	sha1_update(&sha1, strlen(magic), (const uint8_t *) magic);
	sha1_digest(&sha1, sizeof(digest), digest);
	base64_encode_raw(ret, sizeof(digest), digest);
	ret[WEBSOCKET_ACCEPT_SIZE - 1] = '\0';
}
