#include "agent/guest_stream.h"

#include <errno.h>
#include <string.h>

#include "agent/guest.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"

enum { CHANNELS = 3 };

struct guest_stream {
	struct stream *stream;
	struct guest_request *request; /* NULL: the guest has closed it */
	const struct guest_stream_kind *kind;
	struct strbuf in;            /* from the client, the guest has no room for it yet */
	struct strbuf out[CHANNELS]; /* from the guest, the client has no room for it yet */
	bool end_waits;              /* the input's end, until `in` is empty */
	struct strbuf document;      /* of a kind with JSON */
	bool closed;
	int64_t exit_code;
	struct error failure; /* code 0: it went well */
};

static void guest_stream_free(void *data)
{
	struct guest_stream *proxy = data;

	guest_request_free(proxy->request);
	strbuf_done(&proxy->in);
	strbuf_done(&proxy->document);
	for (size_t i = 0; i < CHANNELS; i++)
		strbuf_done(&proxy->out[i]);
	free(proxy);
}

/* ---- from the client to the guest ---- */

static int push_in(struct guest_stream *proxy)
{
	size_t size = proxy->in.size;
	int r;

	if (!proxy->request || size == 0)
		return 0;
	if (size > guest_request_credit(proxy->request))
		size = guest_request_credit(proxy->request);
	if (size == 0)
		return 0;
	r = guest_request_send(proxy->request, FRAME_CHANNEL_IN, proxy->in.data, size);
	if (r < 0)
		return r;
	strbuf_consume(&proxy->in, size);
	stream_grant(proxy->stream, size);
	return 0;
}

/* The end of the input must not overtake it. */
static bool is_end(const char *bytes, size_t size)
{
	AUTO(json_decref) json_t *message = NULL;

	return json_parse(bytes, size, FRAME_BODY_MAX, &message, NULL) == 0 &&
	       json_is_true(json_object_get(message, "eof"));
}

static int received(void *data, enum frame_channel channel, const char *bytes, size_t size,
		    struct error *err)
{
	struct guest_stream *proxy = data;
	int r = 0;

	if (!proxy->request)
		return 0;
	if (channel == FRAME_CHANNEL_IN) {
		strbuf_append(&proxy->in, bytes, size);
		r = push_in(proxy);
	} else if (channel != FRAME_CHANNEL_CONTROL) {
		return error_say(err, -EINVAL, "data must come on channel 0");
	} else if (proxy->in.size > 0 && is_end(bytes, size)) {
		proxy->end_waits = true;
	} else {
		r = guest_request_send(proxy->request, FRAME_CHANNEL_CONTROL, bytes, size);
	}
	return r < 0 ? error_say(err, r, "the guest takes nothing any more") : 0;
}

/* ---- from the guest to the client ---- */

/* True: everything has been sent. */
static bool push_out(struct guest_stream *proxy)
{
	bool all = true;

	for (size_t i = 0; i < CHANNELS; i++) {
		size_t before = proxy->out[i].size;

		if (before == 0)
			continue;
		all &= stream_send_text(proxy->stream, (enum frame_channel) i, &proxy->out[i]);
		if (proxy->request && proxy->kind->json_max == 0)
			guest_request_grant(proxy->request, before - proxy->out[i].size);
	}
	return all;
}

/* May end the stream. */
static void finish(struct guest_stream *proxy)
{
	struct error failure = proxy->failure;

	if (!push_out(proxy) || !proxy->closed)
		return;
	if (failure.code < 0 && proxy->exit_code > 0)
		stream_close_failure(proxy->stream, &failure, proxy->exit_code);
	else if (failure.code < 0)
		stream_close_error(proxy->stream, &failure);
	else
		stream_close_code(proxy->stream, proxy->exit_code < 0 ? 0 : proxy->exit_code);
}

static void guest_received(void *data, enum frame_channel channel, const char *bytes, size_t size)
{
	struct guest_stream *proxy = data;
	size_t max = proxy->kind->json_max;

	if (max == 0) {
		strbuf_append(&proxy->out[channel], bytes, size);
		push_out(proxy);
		return;
	}
	/* One byte too many is enough to know. */
	if (channel == FRAME_CHANNEL_OUT && proxy->document.size <= max)
		strbuf_append(&proxy->document, bytes, size);
	guest_request_grant(proxy->request, size);
}

static void take_document(struct guest_stream *proxy)
{
	AUTO(json_decref) json_t *answer = NULL;
	AUTO(json_decref) json_t *built = NULL;
	AUTO(free) char *text = NULL;

	if (json_parse(strbuf_str(&proxy->document), proxy->document.size, proxy->kind->json_max,
		       &answer, NULL) == 0)
		built = proxy->kind->rebuild(answer);
	if (!built) {
		error_say(&proxy->failure, -EPROTO, "the guest's answer is not understood");
		return;
	}
	text = json_text(built);
	strbuf_puts(&proxy->out[FRAME_CHANNEL_OUT], text);
}

static void guest_closed(void *data, int64_t exit_code, const struct error *err)
{
	struct guest_stream *proxy = data;

	proxy->request = NULL;
	proxy->closed = true;
	proxy->exit_code = exit_code;
	if (err)
		proxy->failure = *err;
	else if (proxy->kind->json_max > 0)
		take_document(proxy);
	finish(proxy);
}

static void send_end(struct guest_stream *proxy)
{
	static const char end[] = "{\"eof\":true}";

	if (!proxy->end_waits || proxy->in.size > 0 || !proxy->request)
		return;
	proxy->end_waits = false;
	(void) guest_request_send(proxy->request, FRAME_CHANNEL_CONTROL, end, sizeof(end) - 1);
}

static void guest_writable(void *data)
{
	struct guest_stream *proxy = data;

	(void) push_in(proxy);
	send_end(proxy);
}

static void writable(void *data)
{
	finish(data);
}

void guest_stream_open(struct stream *stream, struct guest *guest, const json_t *arguments,
		       const struct guest_stream_kind *kind, const struct stream_ops **ret_ops,
		       void **ret_data)
{
	static const struct stream_ops ops = { received, writable, guest_stream_free };
	static const struct guest_call_ops guest_ops = { guest_received, guest_writable,
							 guest_closed };
	struct guest_stream *proxy = mem_new0(struct guest_stream);
	AUTO(json_decref) json_t *passed = json_copy((json_t *) arguments);

	json_object_del(passed, "uid");
	proxy->stream = stream;
	proxy->kind = kind;
	proxy->request = guest_request_new(guest, passed, &guest_ops, proxy);
	*ret_ops = &ops;
	*ret_data = proxy;
}
