/*
 * The second half of api/request.h: what is sent back.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/api_internal.h"
#include "api/request.h"
#include "api/request_internal.h"
#include "api/server.h"
#include "api/ws.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

enum { BODY_BLOCK_SIZE = 64 * 1024 };

struct error_kind {
	int code;
	unsigned int status;
	const char *hint;
};

static const struct error_kind error_kinds[] = {
	{ -EINVAL, 400, "correct the request; docs/api.md describes every member" },
	{ -ENAMETOOLONG, 400, "use a shorter URL" },
	{ -EDOM, 400, "correct the request; docs/api.md describes every member" },
	{ -ERANGE, 400, "correct the request; docs/api.md describes every member" },
	{ -EBADMSG, 400, "give another file: this one is damaged, or not of this kind" },
	{ -ENOTDIR, 400, "name a folder, or leave the rest of the path away" },
	{ -ELOOP, 400, "name what the links lead to" },
	{ -EROFS, 403, "write to a volume, or to an instance that is not read-only" },
	{ -EACCES, 403, "ask an administrator for access" },
	{ -EPERM, 403, "ask an administrator for access" },
	{ -ENOENT, 404, "list what there is with GET on the collection" },
	{ -EEXIST, 409, "choose another name, or delete the other one first" },
	{ -EBUSY, 409, "bring it into the state that this needs, or wait until nothing uses it" },
	{ -EADDRINUSE, 409, "choose another one, or free it first" },
	{ -EALREADY, 409, "wait for the operation that is under way" },
	{ -ESTALE, 412, "read it again and repeat the change on what you find" },
	{ -EFBIG, 413, "send less at once" },
	{ -EMSGSIZE, 413, "send less at once" },
	{ -ECANCELED, 409, "begin again if it is still wanted" },
	{ -EOPNOTSUPP, 501, "this build cannot do it; see GET /1.0 for what it can" },
	{ -ENOTCONN, 503, "see that brume-agentd runs on the node, then try again" },
	{ -EHOSTDOWN, 503, "see that brume-agentd runs on the node, then try again" },
	{ -EAGAIN, 503, "try again in a moment" },
	{ -ETIMEDOUT, 504, "try again in a moment" },
	{ -ENOSPC, 507, "free space on the disk of the node" },
	{ -EDQUOT, 507, "delete what is not needed any more" },
};

static const struct error_kind *error_kind(int code)
{
	static const struct error_kind unexpected = { 0, 500, "see the log of brumed" };

	for (size_t i = 0; i < ARRAY_COUNT(error_kinds); i++)
		if (error_kinds[i].code == code)
			return &error_kinds[i];
	return &unexpected;
}

static void set_response(struct request *req, unsigned int status, struct MHD_Response *response)
{
	if (req->response || req->queued) {
		MHD_destroy_response(response);
		return;
	}
	req->response = response;
	req->status = status;
	if (req->header)
		MHD_add_response_header(response, req->header, req->header_value);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	request_resume(req);
}

void request_set_header(struct request *req, const char *name, const char *value)
{
	req->header = name;
	mem_replace(&req->header_value, value);
}

/* Takes over the text. */
static struct MHD_Response *text_response(char *text, size_t size)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(size, text, MHD_RESPMEM_MUST_FREE);

	if (!response)
		abort();
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
	return response;
}

static struct MHD_Response *json_response(const json_t *document)
{
	char *text = json_dumps(document, JSON_COMPACT);

	if (!text)
		abort();
	return text_response(text, strlen(text));
}

static void answer_sync(struct request *req, struct MHD_Response *response, int64_t etag)
{
	char text[32];

	if (etag > 0) {
		snprintf(text, sizeof(text), "\"%lld\"", (long long) etag);
		MHD_add_response_header(response, MHD_HTTP_HEADER_ETAG, text);
	}
	set_response(req, MHD_HTTP_OK, response);
}

void request_answer(struct request *req, json_t *metadata, int64_t etag)
{
	AUTO(json_decref)
	json_t *document = json_pack("{s:s, s:o}", "type", "sync", "metadata", metadata);

	answer_sync(req, json_response(document), etag);
}

void request_answer_text(struct request *req, struct strbuf *document, int64_t etag)
{
	size_t size = document->size;

	answer_sync(req, text_response(strbuf_take(document), size), etag);
}

void request_answer_async(struct request *req, json_t *operation)
{
	const json_t *meta = json_object_get(operation, "meta");
	AUTO(free)
	char *path =
		mem_printf("/1.0/operations/%s", json_string_value(json_object_get(meta, "name")));
	AUTO(json_decref)
	json_t *document = json_pack("{s:s, s:s, s:o}", "type", "async", "operation", path,
				     "metadata", operation);
	struct MHD_Response *response = json_response(document);

	MHD_add_response_header(response, MHD_HTTP_HEADER_LOCATION, path);
	set_response(req, MHD_HTTP_ACCEPTED, response);
}

/* Words may quote what a stranger sent: what is not UTF-8 is shown as '?'. */
static json_t *json_words(const char *words)
{
	json_t *value = json_string(words);

	if (value)
		return value;
	AUTO(free) char *copy = mem_strdup(words);
	for (char *p = copy; *p; p++)
		if ((unsigned char) *p >= 0x80)
			*p = '?';
	return json_string(copy);
}

void request_answer_status(struct request *req, unsigned int status, const char *words,
			   const char *hint, const char *header, const char *value)
{
	AUTO(json_decref)
	json_t *document =
		json_pack("{s:s, s:i, s:o, s:o*}", "type", "error", "error_code", (int) status,
			  "error", json_words(words), "hint", hint ? json_words(hint) : NULL);
	struct MHD_Response *response = json_response(document);

	if (header)
		MHD_add_response_header(response, header, value);
	set_response(req, status, response);
}

void request_answer_error(struct request *req, int code, const struct error *err, const char *hint)
{
	const struct error_kind *kind = error_kind(code);
	const char *words = err && err->msg[0] ? err->msg : strerror(-code);

	if (kind->status == 500)
		log_warning("request %s by %s: %s", req->match.route ? req->match.route->path : "",
			    req->who, words);
	request_answer_status(req, kind->status, words, hint ? hint : kind->hint, NULL, NULL);
}

void request_answer_options(struct request *req)
{
	AUTO(free) char *allowed = route_allowed_methods(&req->uri);
	struct MHD_Response *response =
		MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);

	if (!response)
		abort();
	MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allowed);
	set_response(req, MHD_HTTP_NO_CONTENT, response);
}

static ssize_t on_body_read(void *user, uint64_t position, char *data, size_t size)
{
	struct request *req = user;
	ssize_t n = req->broken ? REQUEST_BODY_BROKEN : req->read(req, data, size, req->read_state);

	(void) position;
	if (n == REQUEST_BODY_END)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (n == REQUEST_BODY_BROKEN)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (n == 0)
		request_suspend(req, 0);
	return n;
}

void request_answer_body(struct request *req, const char *content_type, request_read_fn read,
			 void *state)
{
	struct MHD_Response *response;

	req->read = read;
	req->read_state = state;
	response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BODY_BLOCK_SIZE,
						     on_body_read, req, NULL);
	if (!response)
		abort();
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
	set_response(req, MHD_HTTP_OK, response);
}

void request_body_ready(struct request *req)
{
	request_resume(req);
}

enum MHD_Result request_queue(struct request *req)
{
	enum MHD_Result r = MHD_queue_response(req->connection, req->status, req->response);

	MHD_destroy_response(TAKE_PTR(req->response));
	req->queued = true;
	req->peer->deadline_us = 0;
	return r;
}

/* -- WebSockets ----------------------------------------------------------------------------- */

static const char *header(struct request *req, const char *name)
{
	const char *value = MHD_lookup_connection_value(req->connection, MHD_HEADER_KIND, name);

	return value ? value : "";
}

static bool has_word(const char *list, const char *word)
{
	size_t size = strlen(word);

	while (*list) {
		list += strspn(list, " \t,");
		size_t n = strcspn(list, " \t,");
		if (n == size && strncasecmp(list, word, n) == 0)
			return true;
		list += n;
	}
	return false;
}

struct upgraded {
	struct server *server;
	struct MHD_UpgradeResponseHandle *urh;
};

static void on_release(void *data)
{
	struct upgraded *upgraded = data;

	MHD_upgrade_action(upgraded->urh, MHD_UPGRADE_ACTION_CLOSE);
	server_kick(upgraded->server);
	free(upgraded);
}

static void on_upgraded(void *user, struct MHD_Connection *connection, void *con_cls,
			const char *extra, size_t extra_size, MHD_socket fd,
			struct MHD_UpgradeResponseHandle *urh)
{
	struct request *req = user;
	struct upgraded *upgraded = mem_new0(struct upgraded);
	struct ws_setup setup = { .fd = fd,
				  .extra = extra,
				  .extra_size = extra_size,
				  .ping_us = req->api->ping_us,
				  .list = &req->api->sockets,
				  .release = on_release,
				  .release_data = upgraded };

	(void) connection;
	(void) con_cls;
	*upgraded = (struct upgraded){ req->peer->server, urh };
	req->free_state = NULL;
	req->open(req->api, &setup, TAKE_PTR(req->state));
}

int request_upgrade(struct request *req, request_open_fn open, struct error *err)
{
	char accept[WS_ACCEPT_SIZE];
	struct MHD_Response *response;

	if (!has_word(header(req, "Upgrade"), "websocket") ||
	    !has_word(header(req, "Connection"), "upgrade")) {
		request_answer_status(req, 426, "this path is a WebSocket",
				      "ask with 'Connection: Upgrade' and 'Upgrade: websocket'",
				      "Upgrade", "websocket");
		return 0;
	}
	if (strcmp(header(req, "Sec-WebSocket-Version"), "13") != 0) {
		request_answer_status(req, 426, "WebSocket version is not 13",
				      "ask with 'Sec-WebSocket-Version: 13'",
				      "Sec-WebSocket-Version", "13");
		return 0;
	}
	if (ws_accept_key(header(req, "Sec-WebSocket-Key"), accept) < 0)
		return error_say(err, -EINVAL,
				 "Sec-WebSocket-Key: must be 16 random bytes in base64");
	req->open = open;
	response = MHD_create_response_for_upgrade(on_upgraded, req);
	if (!response)
		return error_set(err, -ENOMEM, "WebSocket");
	MHD_add_response_header(response, "Upgrade", "websocket");
	MHD_add_response_header(response, "Sec-WebSocket-Accept", accept);
	set_response(req, MHD_HTTP_SWITCHING_PROTOCOLS, response);
	return 0;
}
