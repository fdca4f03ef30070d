#include "agent/guest.h"

#include <errno.h>
#include <string.h>
#include <utlist.h>

#include "agent/retry.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/strbuf.h"

enum {
	RETRY_FIRST_MS = 50,
	RETRY_MAX_MS = 1000,
	PORT_PAUSE_MS = 1000, /* a guest takes a port for closed that is closed for half of that */
	ANSWER_FIRST_MS = 2000,
	ANSWER_MAX_MS = 32 * 1000,
	BREACHES_MIN = 2,
	BREACH_MAX = 200
};

/* One attempt; outlives the guest while a worker is at it. */
struct attempt {
	struct guest *guest; /* NULL: nobody wants it any more */
	enum machine_backend backend;
	char *run_dir;
	int fd; /* or -errno */
	struct error err;
};

struct guest_request {
	struct guest_request *prev, *next;
	struct guest *guest;
	json_t *arguments;
	struct guest_call *call; /* NULL: the guest has not taken it yet */
	const struct guest_call_ops *ops;
	void *data;
	struct retry patience;
	struct strbuf early; /* control messages that came before, as {channel, u32 size, bytes} */
};

struct guest {
	sd_event *event;
	struct pool *pool;
	enum machine_backend backend;
	char *run_dir;
	const struct guest_ops *ops;
	void *data;
	struct attempt *attempt;
	struct guest_link *link;
	struct retry retry, answer;
	uint32_t answer_ms; /* on a port, how long it may take to answer our hello */
	struct guest_request *requests;
	bool up;
	unsigned int breaches; /* of the protocol; counted up to BREACHES_MIN */
	char *breach;          /* NULL: not that many */
};

/* ---- requests ---- */

static void request_release(struct guest_request *request)
{
	DL_DELETE(request->guest->requests, request);
	retry_stop(&request->patience);
	json_decref(request->arguments);
	strbuf_done(&request->early);
	free(request);
}

static void request_fail(struct guest_request *request, const struct error *why)
{
	const struct guest_call_ops *ops = request->ops;
	void *data = request->data;

	request_release(request);
	ops->closed(data, -1, why);
}

static void call_received(void *data, enum frame_channel channel, const char *bytes, size_t size)
{
	struct guest_request *request = data;

	request->ops->received(request->data, channel, bytes, size);
}

static void call_writable(void *data)
{
	struct guest_request *request = data;

	if (request->ops->writable)
		request->ops->writable(request->data);
}

static void call_closed(void *data, int64_t exit_code, const struct error *err)
{
	struct guest_request *request = data;
	const struct guest_call_ops *ops = request->ops;
	void *owner = request->data;

	request->call = NULL;
	request_release(request);
	ops->closed(owner, exit_code, err);
}

static const struct guest_call_ops call_ops = { call_received, call_writable, call_closed };

static void send_early(struct guest_request *request)
{
	AUTO(strbuf_done) struct strbuf early = request->early;
	size_t at = 0;
	uint32_t size;

	request->early = (struct strbuf){};
	while (at < early.size) {
		memcpy(&size, early.data + at, sizeof(size));
		at += sizeof(size);
		(void) guest_call_send(request->call, FRAME_CHANNEL_CONTROL, early.data + at, size);
		at += size;
	}
}

/* False: it has failed and is gone. */
static bool request_begin(struct guest_request *request)
{
	struct error err = {};

	if (guest_call_new(request->guest->link, request->arguments, &call_ops, request,
			   &request->call, &err) < 0) {
		request_fail(request, &err);
		return false;
	}
	retry_stop(&request->patience);
	send_early(request);
	return true;
}

static void out_of_patience(void *data)
{
	struct guest_request *request = data;
	struct error err = {};

	/* How long a boot may take is its owner's business. */
	if (!request->guest->up) {
		retry_in(&request->patience, request->guest->event, GUEST_PATIENCE_MS);
		return;
	}
	error_say(&err, -ETIMEDOUT, "the guest has not answered for %d seconds",
		  GUEST_PATIENCE_MS / 1000);
	if (!request->call)
		request_fail(request, &err);
}

/* The first round of the loop after the request was made, and whenever the guest is there. */
static void begin_requests(struct guest *guest)
{
	struct guest_request *request, *next;

	DL_FOREACH_SAFE(guest->requests, request, next)
	{
		if (!guest->link || !guest_link_ready(guest->link))
			return;
		if (!request->call && request_begin(request))
			call_writable(request);
	}
}

static void on_first_round(void *data)
{
	struct guest_request *request = data;
	struct guest *guest = request->guest;

	request->patience.fire = out_of_patience;
	retry_in(&request->patience, guest->event, GUEST_PATIENCE_MS);
	begin_requests(guest);
}

struct guest_request *guest_request_new(struct guest *guest, const json_t *arguments,
					const struct guest_call_ops *ops, void *data)
{
	struct guest_request *request = mem_new0(struct guest_request);

	request->guest = guest;
	request->arguments = json_incref((json_t *) arguments);
	request->ops = ops;
	request->data = data;
	request->patience = (struct retry){ .fire = on_first_round, .data = request };
	DL_APPEND(guest->requests, request);
	retry_in(&request->patience, guest->event, 0);
	return request;
}

size_t guest_request_credit(const struct guest_request *request)
{
	return request->call ? guest_call_credit(request->call) : 0;
}

int guest_request_send(struct guest_request *request, enum frame_channel channel, const void *bytes,
		       size_t size)
{
	uint32_t size32 = (uint32_t) size;

	if (request->call)
		return guest_call_send(request->call, channel, bytes, size);
	if (channel != FRAME_CHANNEL_CONTROL || size > FRAME_CREDIT_INITIAL - request->early.size)
		return -ENOBUFS;
	strbuf_append(&request->early, &size32, sizeof(size32));
	strbuf_append(&request->early, bytes, size);
	return 0;
}

void guest_request_grant(struct guest_request *request, size_t bytes)
{
	if (request->call)
		guest_call_grant(request->call, bytes);
}

void guest_request_free(struct guest_request *request)
{
	if (!request)
		return;
	guest_call_free(request->call);
	request_release(request);
}

/* ---- what nobody waits for ---- */

struct note {
	struct guest_request *request;
};

static void note_received(void *data, enum frame_channel channel, const char *bytes, size_t size)
{
	struct note *note = data;

	(void) channel;
	(void) bytes;
	guest_request_grant(note->request, size);
}

static void note_closed(void *data, int64_t exit_code, const struct error *err)
{
	(void) exit_code;
	if (err)
		log_debug("guest: %s", err->msg);
	free(data);
}

void guest_tell(struct guest *guest, const json_t *arguments)
{
	static const struct guest_call_ops ops = { note_received, NULL, note_closed };
	struct note *note = mem_new0(struct note);

	note->request = guest_request_new(guest, arguments, &ops, note);
}

/* ---- the connection ---- */

/* One that outlives its connections: guest_link.h. */
static bool has_port(const struct guest *guest)
{
	return guest->backend == MACHINE_QEMU;
}

static void connect_later(struct guest *guest)
{
	retry_later(&guest->retry, guest->event, RETRY_FIRST_MS, RETRY_MAX_MS);
}

static void on_told(void *data)
{
	struct guest *guest = data;

	/* Who says hello and then what is none of the protocol does not get us back at once. */
	if (guest->breaches == 0)
		retry_reset(&guest->retry);
	retry_stop(&guest->answer);
	guest->answer_ms = ANSWER_FIRST_MS;
	guest->up = guest_link_state(guest->link) != GUEST_BOOTING;
	/* Last: it may end the guest. */
	begin_requests(guest);
	guest->ops->told(guest->data);
}

/* Parts of it may be the guest's own. */
static char *breach_text(const char *message)
{
	AUTO(strbuf_done) struct strbuf text = {};
	size_t size = strnlen(message, BREACH_MAX);

	do {
		strbuf_consume(&text, text.size);
		strbuf_put_printable(&text, message, size);
		size /= 2;
	} while (text.size > BREACH_MAX);
	return strbuf_take(&text);
}

static void on_lost(void *data, const struct error *why)
{
	struct guest *guest = data;

	log_debug("guest: %s", why->msg);
	retry_stop(&guest->answer);
	if (guest_link_broken(guest->link) && guest->breaches < BREACHES_MIN &&
	    ++guest->breaches == BREACHES_MIN)
		guest->breach = breach_text(why->msg);
	guest_link_free(guest->link);
	guest->link = NULL;
	/* On a port it must have seen the end, or it takes the next one for the same. */
	if (has_port(guest))
		retry_in(&guest->retry, guest->event, PORT_PAUSE_MS);
	else
		connect_later(guest);
	guest->ops->told(guest->data);
}

/* A slow one gets more time with each attempt, or it would be cut short again and again. */
static void on_silence(void *data)
{
	struct guest *guest = data;

	if (guest->answer_ms < ANSWER_MAX_MS)
		guest->answer_ms *= 2;
	if (guest->link)
		guest_link_give_up(guest->link);
}

static void attempt_free(struct attempt *attempt)
{
	fd_close(attempt->fd);
	free(attempt->run_dir);
	free(attempt);
}

static void work(void *data)
{
	struct attempt *attempt = data;

	attempt->fd = machine_connect_guest(attempt->backend, attempt->run_dir, &attempt->err);
}

/* Never 0; a JSON number has room for it. */
static uint64_t new_connection(void)
{
	uint64_t number = 0;

	rng_system()->fill(rng_system(), &number, sizeof(number));
	return (number >> 11) | 1;
}

static void done(void *data)
{
	static const struct guest_link_ops ops = { on_told, on_lost };
	struct attempt *attempt = data;
	struct guest *guest = attempt->guest;

	if (guest) {
		uint64_t connection = has_port(guest) ? new_connection() : 0;

		guest->attempt = NULL;
		if (attempt->fd >= 0 && guest_link_new(guest->event, attempt->fd, connection, &ops,
						       guest, &guest->link, &attempt->err) == 0) {
			attempt->fd = -1;
			if (has_port(guest))
				retry_in(&guest->answer, guest->event, guest->answer_ms);
		} else {
			connect_later(guest);
		}
	}
	attempt_free(attempt);
}

static void connect_now(void *data)
{
	struct guest *guest = data;
	struct attempt *attempt = mem_new0(struct attempt);

	attempt->guest = guest;
	attempt->backend = guest->backend;
	attempt->run_dir = mem_strdup(guest->run_dir);
	attempt->fd = -1;
	guest->attempt = attempt;
	pool_submit(guest->pool, work, done, attempt);
}

struct guest *guest_new(sd_event *event, struct pool *pool, enum machine_backend backend,
			const char *run_dir, bool up, const struct guest_ops *ops, void *data)
{
	struct guest *guest = mem_new0(struct guest);

	guest->event = event;
	guest->pool = pool;
	guest->backend = backend;
	guest->run_dir = mem_strdup(run_dir);
	guest->up = up;
	guest->ops = ops;
	guest->data = data;
	guest->answer = (struct retry){ .fire = on_silence, .data = guest };
	guest->answer_ms = ANSWER_FIRST_MS;
	guest->retry = (struct retry){ .fire = connect_now, .data = guest };
	connect_now(guest);
	return guest;
}

bool guest_is_up(const struct guest *guest)
{
	return guest->up;
}

const char *guest_breach(const struct guest *guest)
{
	return guest->breach;
}

void guest_free(struct guest *guest)
{
	struct error why = {};

	if (!guest)
		return;
	if (guest->attempt)
		guest->attempt->guest = NULL;
	retry_stop(&guest->retry);
	retry_stop(&guest->answer);
	guest_link_free(guest->link);
	error_say(&why, -ECONNRESET, "the virtual machine has just ended");
	while (guest->requests)
		request_fail(guest->requests, &why);
	free(guest->run_dir);
	free(guest->breach);
	free(guest);
}
