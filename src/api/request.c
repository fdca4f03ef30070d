#include "api/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "api/api_internal.h"
#include "api/request_internal.h"
#include "api/server.h"
#include "base/json.h"
#include "base/mem.h"

struct request *http_request_new(struct api *api, const char *target)
{
	struct request *req = mem_new0(struct request);

	req->api = api;
	req->uri_result = uri_parse(target, &req->uri, &req->uri_error);
	return req;
}

void http_request_free(struct request *req)
{
	if (!req)
		return;
	if (req->free_state)
		req->free_state(req->state);
	if (req->response)
		MHD_destroy_response(req->response);
	sd_event_source_disable_unref(req->hangup);
	strbuf_done(&req->body);
	free(req->header_value);
	uri_done(&req->uri);
	free(req);
}

struct api *request_api(const struct request *req)
{
	return req->api;
}

sd_event *request_event(const struct request *req)
{
	return req->api->event;
}

bool request_is_head(const struct request *req)
{
	return req->head;
}

const char *request_arg(const struct request *req, unsigned int i)
{
	return req->match.args[i];
}

const char *request_project(const struct request *req)
{
	const char *project = uri_query(&req->uri, "project");

	return project && project[0] ? project : "default";
}

const char *request_query(const struct request *req, const char *name)
{
	return uri_query(&req->uri, name);
}

int request_query_bool(const struct request *req, const char *name, bool *ret, struct error *err)
{
	const char *text = uri_query(&req->uri, name);

	if (!text)
		return 0;
	if (strcmp(text, "1") == 0 || strcmp(text, "true") == 0 || text[0] == '\0')
		*ret = true;
	else if (strcmp(text, "0") == 0 || strcmp(text, "false") == 0)
		*ret = false;
	else
		return error_say(err, -EINVAL, "?%s=%s: must be 1 or 0", name, text);
	return 0;
}

int request_query_int(const struct request *req, const char *name, int64_t min, int64_t max,
		      int64_t *ret, struct error *err)
{
	const char *text = uri_query(&req->uri, name);
	char *end = NULL;

	if (!text)
		return 0;
	errno = 0;
	long long value = strtoll(text, &end, 10);
	if (errno || end == text || *end || value < min || value > max)
		return error_say(err, -EINVAL, "?%s=%s: must be a whole number from %lld to %lld",
				 name, text, (long long) min, (long long) max);
	*ret = value;
	return 0;
}

int request_if_match(const struct request *req, int64_t *ret, struct error *err)
{
	const char *text = MHD_lookup_connection_value(req->connection, MHD_HEADER_KIND,
						       MHD_HTTP_HEADER_IF_MATCH);
	char *end = NULL;

	*ret = 0;
	if (!text || strcmp(text, "*") == 0)
		return 0;
	errno = 0;
	long long value = text[0] == '"' ? strtoll(text + 1, &end, 10) : -1;
	if (errno || value <= 0 || end == text + 1 || strcmp(end, "\"") != 0)
		return error_say(err, -EINVAL,
				 "If-Match: must be one ETag as it was given, like \"42\"");
	*ret = value;
	return 0;
}

int request_json(const struct request *req, json_t **ret, struct error *err)
{
	AUTO(json_decref) json_t *value = NULL;
	int r;

	if (req->body.size == 0) {
		*ret = json_object();
		return 0;
	}
	r = json_parse(req->body.data, req->body.size, REQUEST_BODY_MAX, &value, err);
	if (r < 0)
		return error_wrap(err, r, "body");
	if (!json_is_object(value))
		return error_say(err, -EINVAL, "body: must be a JSON object");
	*ret = TAKE_PTR(value);
	return 0;
}

bool request_is_root(const struct request *req)
{
	return req->peer->root;
}

void request_keep(struct request *req, void *state, void (*free_state)(void *state))
{
	req->state = state;
	req->free_state = free_state;
}

static int on_hangup(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	struct request *req = user;

	(void) source;
	(void) fd;
	(void) revents;
	/* The HTTP library finds out by itself that nobody listens, and frees the request. */
	req->broken = true;
	if (!req->queued && !req->response && req->gone)
		req->gone(req, req->state);
	if (!req->queued && !req->response)
		request_answer_status(req, MHD_HTTP_BAD_REQUEST, "the client has hung up",
				      "stay connected until the answer comes", NULL, NULL);
	request_resume(req);
	return 0;
}

void request_suspend(struct request *req, uint32_t watch_events)
{
	if (req->suspended)
		return;
	req->suspended = true;
	MHD_suspend_connection(req->connection);
	/* Failing to watch only means to notice later, when the wait is over. */
	(void) sd_event_add_io(req->api->event, &req->hangup, req->peer->fd, watch_events,
			       on_hangup, req);
}

void request_resume(struct request *req)
{
	if (!req->suspended)
		return;
	req->suspended = false;
	req->hangup = sd_event_source_disable_unref(req->hangup);
	MHD_resume_connection(req->connection);
	server_kick(req->peer->server);
}

void request_wait(struct request *req, void (*gone)(struct request *req, void *state))
{
	req->waiting = true;
	req->gone = gone;
}

void request_upload(struct request *req, request_data_fn data, request_end_fn end)
{
	req->upload_data = data;
	req->upload_end = end;
}

void request_upload_ready(struct request *req)
{
	request_resume(req);
}
