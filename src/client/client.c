#include "client/client.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <nettle/base64.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "client/endpoint.h"
#include "client/http_response.h"
#include "client/transport.h"
#include "client/websocket.h"
#include "codec/uri.h"

enum {
	CLIENT_JSON_MAX_BYTES = 256 * 1024 * 1024, /* a list of everything */
	CLIENT_READ_BYTES = 128 * 1024,
	CLIENT_UPLOAD_BYTES = 256 * 1024,
};

struct client {
	struct endpoint endpoint;
	char *token, *ca_file, *project;
	struct transport *transport; /* kept alive between requests */
	int wakeup_fd;
	struct transport_aside aside;
	int status;
	char hint[240];
};

/* What one answer is collected into. */
struct client_answer {
	struct http_response response;
	struct strbuf json;  /* the envelope */
	client_sink_fn sink; /* gets the body instead when the answer is good and no JSON */
	void *sink_userdata;
	struct strbuf after; /* bytes behind the answer */
	bool any;            /* something has arrived */
};

static void client_answer_done(struct client_answer *answer)
{
	http_response_done(&answer->response);
	strbuf_done(&answer->json);
	strbuf_done(&answer->after);
}

static void client_answer_done_autop(struct client_answer *answer)
{
	client_answer_done(answer);
}

/* A token goes into a header line: only what RFC 6750 lets through. */
static int client_check_token(const char *token, struct error *err)
{
	for (const char *p = token; p && *p; p++)
		if (*p <= ' ' || *p > '~')
			return error_say(err, -EINVAL,
					 "the token has a character that no token has (a space or "
					 "a line break?)");
	return 0;
}

int client_new(const struct client_options *options, struct client **ret, struct error *err)
{
	AUTO(client_free) struct client *client = mem_new0(struct client);
	int r;

	client->wakeup_fd = client->aside.fd = -1;
	r = endpoint_parse(options->host, &client->endpoint, err);
	if (r < 0)
		return r;
	r = client_check_token(options->token, err);
	if (r < 0)
		return r;
	client->token = mem_strdup(options->token);
	client->ca_file = mem_strdup(options->ca_file);
	client->project = mem_strdup(options->project);
	*ret = TAKE_PTR(client);
	return 0;
}

static void client_hint_connect(struct client *client, int r)
{
	const char *path = client->endpoint.socket_path;
	const struct group *group = NULL;
	struct stat st;

	if (!path)
		return;
	if (r == -ENOENT || r == -ECONNREFUSED) {
		snprintf(client->hint, sizeof(client->hint),
			 "brumed is not running, or uses another folder; start it as root with "
			 "`systemctl start brumed` or `brumed --supervise`, or name its socket "
			 "with --socket");
	} else if (r == -EACCES || r == -EPERM) {
		if (stat(path, &st) == 0 && st.st_gid != 0)
			group = getgrgid(st.st_gid);
		snprintf(client->hint, sizeof(client->hint),
			 "members of the group %s may use it; as root: usermod -aG %s $USER, then "
			 "log in again",
			 group ? group->gr_name : "brume", group ? group->gr_name : "brume");
	}
}

static int client_connect(struct client *client, struct transport **ret, struct error *err)
{
	int r = transport_open(&client->endpoint, client->ca_file, ret, err);

	if (r < 0) {
		client_hint_connect(client, r);
		return r;
	}
	transport_set_wakeup(*ret, client->wakeup_fd);
	transport_set_aside(*ret, &client->aside);
	return 0;
}

static char *client_head(const struct client *client, const char *method, const char *path,
			 const char *more)
{
	AUTO(strbuf_done) struct strbuf head = {};

	strbuf_printf(&head, "%s /1.0%s", method, path);
	if (client->project) {
		AUTO(free) char *project = uri_encode(client->project);

		strbuf_printf(&head, "%cproject=%s", strchr(path, '?') ? '&' : '?', project);
	}
	strbuf_puts(&head, " HTTP/1.1\r\nUser-Agent: brume/" BRUME_VERSION "\r\n");
	if (!client->endpoint.host)
		strbuf_puts(&head, "Host: brume\r\n");
	else if (strchr(client->endpoint.host, ':'))
		strbuf_printf(&head, "Host: [%s]:%u\r\n", client->endpoint.host,
			      client->endpoint.port);
	else
		strbuf_printf(&head, "Host: %s:%u\r\n", client->endpoint.host,
			      client->endpoint.port);
	if (client->token)
		strbuf_printf(&head, "Authorization: Bearer %s\r\n", client->token);
	strbuf_puts(&head, more);
	strbuf_puts(&head, "\r\n");
	return strbuf_take(&head);
}

static int client_body_callback(void *userdata, const void *data, size_t size)
{
	struct client_answer *answer = userdata;

	if (answer->sink && answer->response.status == 200 && !answer->response.json)
		return answer->sink(answer->sink_userdata, data, size);
	if (answer->json.size + size > CLIENT_JSON_MAX_BYTES)
		return -EFBIG;
	strbuf_append(&answer->json, data, size);
	return 0;
}

/* 1: complete, 0: more is needed. */
static int client_answer_feed(struct client_answer *answer, const char *data, size_t size,
			      struct error *err)
{
	size_t used = 0;
	int r = http_response_feed(&answer->response, data, size, &used, client_body_callback,
				   answer, err);

	answer->any = true;
	if (r == -EFBIG)
		return error_say(err, r, "the server's answer is larger than %d MiB",
				 CLIENT_JSON_MAX_BYTES >> 20);
	if (r > 0)
		strbuf_append(&answer->after, data + used, size - used);
	return r;
}

static int client_read_answer(struct transport *transport, struct client_answer *answer,
			      struct error *err)
{
	AUTO(free) char *data = mem_zalloc(CLIENT_READ_BYTES);

	while (answer->response.state != HTTP_STATE_DONE) {
		ssize_t n = transport_read(transport, data, CLIENT_READ_BYTES, err);
		int r;

		if (n < 0)
			return (int) n;
		r = n == 0 ? http_response_end(&answer->response, err)
			   : client_answer_feed(answer, data, (size_t) n, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int client_status_errno(int status)
{
	switch (status) {
	case 400:
		return -EINVAL;
	case 401:
	case 403:
		return -EACCES;
	case 404:
		return -ENOENT;
	case 409:
		return -EEXIST;
	case 412:
		return -ESTALE;
	default:
		return -EIO;
	}
}

static int client_fail(struct client *client, const json_t *envelope, int status, struct error *err)
{
	const char *words = json_string_value(json_object_get(envelope, "error"));
	const char *hint = json_string_value(json_object_get(envelope, "hint"));

	if (status == 401)
		snprintf(client->hint, sizeof(client->hint),
			 "put a token that the server knows into the environment variable "
			 "BRUME_TOKEN");
	else if (hint)
		snprintf(client->hint, sizeof(client->hint), "%s", hint);
	if (words)
		return error_say(err, client_status_errno(status), "%s", words);
	return error_say(err, client_status_errno(status), "the server answered with status %d",
			 status);
}

/* Judges a complete answer. */
static int client_judge(struct client *client, struct client_answer *answer, json_t **ret,
			struct error *err)
{
	AUTO(json_decref) json_t *envelope = NULL;
	int status = answer->response.status, r;
	bool good = status >= 200 && status < 300;

	client->status = status;
	if (!answer->response.json) {
		if (!good)
			return client_fail(client, NULL, status, err);
		if (answer->sink)
			return 0;
		return error_say(err, -EPROTO,
				 "the server's answer is not understood: it is not JSON");
	}
	r = json_parse(strbuf_str(&answer->json), answer->json.size, CLIENT_JSON_MAX_BYTES,
		       &envelope, good ? err : NULL);
	if (r < 0 && good)
		return error_wrap(err, r, "the server's answer is not understood");
	if (!good)
		return client_fail(client, envelope, status, err);
	if (ret)
		*ret = json_incref(json_object_get(envelope, "metadata"));
	if (ret && !*ret)
		return error_say(err, -EPROTO,
				 "the server's answer is not understood: no metadata in it");
	return 0;
}

/* One exchange on the kept connection; it stays only when both sides are at a clean point. */
static int client_exchange(struct client *client, const char *request, size_t size,
			   struct client_answer *answer, struct error *err)
{
	AUTO(transport_free) struct transport *transport = TAKE_PTR(client->transport);
	int r;

	if (!transport) {
		r = client_connect(client, &transport, err);
		if (r < 0)
			return r;
	}
	transport_set_wakeup(transport, client->wakeup_fd);
	r = transport_write(transport, request, size, err);
	/* A server that refuses may have answered before it read everything. */
	if (r < 0 && r != -EPIPE && r != -ECONNRESET)
		return r;
	r = client_read_answer(transport, answer, err);
	if (r < 0)
		return r;
	if (answer->response.keep_alive && answer->after.size == 0)
		client->transport = TAKE_PTR(transport);
	return 0;
}

static void client_reset(struct client *client)
{
	client->status = 0;
	client->hint[0] = '\0';
}

int client_request(struct client *client, const char *method, const char *path, const json_t *body,
		   json_t **ret, struct error *err)
{
	AUTO(client_answer_done) struct client_answer answer = {};
	AUTO(free) char *text = body ? json_text(body) : NULL;
	AUTO(free) char *more = NULL, *head = NULL, *request = NULL;
	bool reused = client->transport != NULL;
	int r;

	client_reset(client);
	if (text)
		more = mem_printf("Content-Type: application/json\r\nContent-Length: %zu\r\n",
				  strlen(text));
	else
		more = mem_strdup(strcmp(method, "GET") == 0 ? "" : "Content-Length: 0\r\n");
	head = client_head(client, method, path, more);
	request = mem_printf("%s%s", head, text ? text : "");
	r = client_exchange(client, request, strlen(request), &answer, err);
	if ((r == -ECONNRESET || r == -EPIPE) && reused && !answer.any &&
	    strcmp(method, "GET") == 0) {
		/* The server had closed the idle connection. */
		client_answer_done(&answer);
		answer = (struct client_answer){};
		r = client_exchange(client, request, strlen(request), &answer, err);
	}
	if (r < 0)
		return r;
	return client_judge(client, &answer, ret, err);
}

/* Sends one chunk; returns 1 when the server has answered already, which only a refusal does. */
static int client_send_chunk(struct transport *transport, const char *data, size_t size,
			     struct client_answer *answer, struct error *err)
{
	char buffer[4096];

	while (size > 0) {
		struct pollfd pollfd = { transport_fd(transport), POLLIN | POLLOUT, 0 };
		ssize_t n;
		int r;

		if (poll(&pollfd, 1, -1) < 0 && errno != EINTR)
			return error_set(err, -errno, "cannot wait for the server");
		if (pollfd.revents & (POLLIN | POLLHUP | POLLERR)) {
			n = transport_try_read(transport, buffer, sizeof(buffer), err);
			if (n < 0 && n != -EAGAIN)
				return (int) n;
			if (n == 0)
				return error_say(err, -ECONNRESET,
						 "the server closed the connection");
			r = n > 0 ? client_answer_feed(answer, buffer, (size_t) n, err) : 0;
			if (r < 0 || answer->response.head_done)
				return r < 0 ? r : 1;
		}
		n = transport_try_write(transport, data, size, err);
		if (n < 0 && n != -EAGAIN)
			return (int) n;
		if (n > 0) {
			data += n;
			size -= (size_t) n;
		}
	}
	return 0;
}

static int client_send_source(struct transport *transport, client_source_fn source, void *userdata,
			      struct client_answer *answer, struct error *err)
{
	enum { LINE = 16 };
	AUTO(free) char *data = mem_zalloc(LINE + CLIENT_UPLOAD_BYTES + 2);
	ssize_t n;

	do {
		size_t filled = 0;
		char line[LINE + 1];
		int digits, r;

		/* Full chunks: sources that give little at a time would make many small writes. */
		do {
			n = source(userdata, data + LINE + filled, CLIENT_UPLOAD_BYTES - filled,
				   err);
			if (n < 0)
				return (int) n;
			filled += (size_t) n;
		} while (n > 0 && filled < CLIENT_UPLOAD_BYTES);
		if (filled > 0) {
			digits = snprintf(line, sizeof(line), "%zx\r\n", filled);
			memcpy(data + LINE - digits, line, (size_t) digits);
			memcpy(data + LINE + filled, "\r\n", 2);
			r = client_send_chunk(transport, data + LINE - digits,
					      (size_t) digits + filled + 2, answer, err);
			if (r != 0)
				return r < 0 ? r : 0;
		}
	} while (n > 0);
	n = client_send_chunk(transport, "0\r\n\r\n", 5, answer, err);
	return n < 0 ? (int) n : 0;
}

int client_upload(struct client *client, const char *method, const char *path,
		  client_source_fn source, void *userdata, json_t **ret, struct error *err)
{
	AUTO(client_answer_done) struct client_answer answer = {};
	AUTO(transport_free) struct transport *transport = NULL;
	AUTO(free)
	char *head = client_head(client, method, path,
				 "Content-Type: application/x-tar\r\nTransfer-Encoding: "
				 "chunked\r\nConnection: close\r\n");
	int r;

	client_reset(client);
	r = client_connect(client, &transport, err);
	if (r < 0)
		return r;
	r = transport_write(transport, head, strlen(head), err);
	if (r < 0)
		return r;
	r = client_send_source(transport, source, userdata, &answer, err);
	/* A server that refuses an upload may hang up; its words may still be there to read. */
	if (r < 0 && r != -EPIPE && r != -ECONNRESET)
		return r;
	r = client_read_answer(transport, &answer, err);
	if (r < 0)
		return r;
	return client_judge(client, &answer, ret, err);
}

int client_download(struct client *client, const char *path, client_sink_fn sink, void *userdata,
		    struct error *err)
{
	AUTO(client_answer_done)
	struct client_answer answer = { .sink = sink, .sink_userdata = userdata };
	AUTO(free) char *head = client_head(client, "GET", path, "Connection: close\r\n");
	int r;

	client_reset(client);
	r = client_exchange(client, head, strlen(head), &answer, err);
	if (r < 0)
		return r;
	if (answer.response.json && answer.response.status < 300)
		return error_say(err, -EPROTO, "the server's answer is not understood: it is JSON");
	return client_judge(client, &answer, NULL, err);
}

static void client_websocket_key(char ret[WEBSOCKET_KEY_SIZE])
{
	struct rng *rng = rng_system();
	uint8_t nonce[16];

	rng->fill(rng, nonce, sizeof(nonce));
	base64_encode_raw(ret, sizeof(nonce), nonce);
	ret[WEBSOCKET_KEY_SIZE - 1] = '\0';
}

int client_open_websocket(struct client *client, const char *path, struct websocket **ret,
			  struct error *err)
{
	AUTO(client_answer_done) struct client_answer answer = {};
	AUTO(transport_free) struct transport *transport = NULL;
	AUTO(free) char *more = NULL, *head = NULL;
	char key[WEBSOCKET_KEY_SIZE], accept[WEBSOCKET_ACCEPT_SIZE];
	int r;

	client_reset(client);
	client_websocket_key(key);
	more = mem_printf(
		"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
		"Sec-WebSocket-Key: %s\r\n",
		key);
	head = client_head(client, "GET", path, more);
	r = client_connect(client, &transport, err);
	if (r < 0)
		return r;
	r = transport_write(transport, head, strlen(head), err);
	if (r < 0)
		return r;
	r = client_read_answer(transport, &answer, err);
	if (r < 0)
		return r;
	if (answer.response.status != 101) {
		r = client_judge(client, &answer, NULL, err);
		return r < 0 ? r : error_say(err, -EPROTO, "the server did not begin a stream");
	}
	websocket_accept_key(key, accept);
	if (strcmp(accept, answer.response.websocket_key) != 0)
		return error_say(err, -EPROTO,
				 "the server answered the WebSocket with a wrong key");
	return websocket_new(TAKE_PTR(transport), answer.after.data, answer.after.size, ret, err);
}

void client_set_wakeup(struct client *client, int fd)
{
	client->wakeup_fd = fd;
}

void client_set_aside(struct client *client, int fd, bool (*fn)(void *userdata), void *userdata)
{
	client->aside = (struct transport_aside){ fd, fn, userdata };
}

int client_status(const struct client *client)
{
	return client->status;
}

const char *client_hint(const struct client *client)
{
	return client->hint;
}

void client_free(struct client *client)
{
	if (!client)
		return;
	transport_free(client->transport);
	endpoint_done(&client->endpoint);
	free(client->token);
	free(client->ca_file);
	free(client->project);
	free(client);
}
