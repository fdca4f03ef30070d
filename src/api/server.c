#include "api/server.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "api/api_internal.h"
#include "api/auth.h"
#include "api/request_internal.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

enum {
	CONNECTION_MEMORY_SIZE = 32 * 1024, /* also bounds the request's head */
	CONNECTION_MEMORY_STEP = 4 * 1024,
	PER_ADDRESS_MAX = 64,
	SWEEP_US = 1000 * 1000,
};

struct server {
	struct api *api;
	struct server_config config;
	struct MHD_Daemon *daemon;
	sd_event_source *io;
	sd_event_source *timer; /* the HTTP library's own next time */
	sd_event_source *sweep; /* looks for requests that take too long */
	struct peer *peers;
	struct request *requests;
};

static uint64_t now_us(void)
{
	return clock_monotonic_us(clock_system());
}

/* -- the loop --------------------------------------------------------------------------------- */

static void rearm(struct server *server)
{
	MHD_UNSIGNED_LONG_LONG timeout_ms;

	if (MHD_get_timeout(server->daemon, &timeout_ms) != MHD_YES) {
		sd_event_source_set_enabled(server->timer, SD_EVENT_OFF);
		return;
	}
	sd_event_source_set_time_relative(server->timer, timeout_ms * 1000);
	sd_event_source_set_enabled(server->timer, SD_EVENT_ONESHOT);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	struct server *server = user;

	(void) source;
	(void) fd;
	(void) revents;
	MHD_run(server->daemon);
	rearm(server);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *user)
{
	(void) usec;
	return on_io(source, -1, 0, user);
}

/*
 * The library's own time-out starts again with every byte.  Who sends one byte now and then is
 * found here; shutting the socket down makes the library end the connection.
 */
static int on_sweep(sd_event_source *source, uint64_t usec, void *user)
{
	struct server *server = user;
	uint64_t now = now_us();

	(void) usec;
	for (struct peer *peer = server->peers; peer; peer = peer->next) {
		if (peer->deadline_us && now > peer->deadline_us) {
			log_info("%s: request not complete in time, closing", peer->who);
			peer->deadline_us = 0;
			shutdown(peer->fd, SHUT_RDWR);
		}
	}
	if (server->peers) {
		sd_event_source_set_time_relative(source, SWEEP_US);
		sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	}
	return 0;
}

/* -- connections ------------------------------------------------------------------------------ */

static void peer_identify(struct peer *peer)
{
	const struct server_config *config = &peer->server->config;
	struct auth_peer cred = {};

	peer->token_needed = config->fd < 0;
	snprintf(peer->who, sizeof(peer->who), "a TCP client");
	if (peer->token_needed)
		return;
	snprintf(peer->who, sizeof(peer->who), "a local client");
	if (auth_peer_read(peer->fd, &cred) < 0)
		return;
	snprintf(peer->who, sizeof(peer->who), "uid %u pid %d", cred.uid, cred.pid);
	peer->root = cred.uid == 0;
	peer->allowed = auth_peer_allowed(&cred, geteuid(), config->group);
	auth_peer_done(&cred);
}

static void await_request(struct peer *peer)
{
	struct server *server = peer->server;
	int enabled = SD_EVENT_OFF;

	peer->deadline_us = now_us() + (uint64_t) server->config.request_s * 1000000;
	if (sd_event_source_get_enabled(server->sweep, &enabled) >= 0 && enabled != SD_EVENT_OFF)
		return;
	sd_event_source_set_time_relative(server->sweep, SWEEP_US);
	sd_event_source_set_enabled(server->sweep, SD_EVENT_ONESHOT);
}

static void on_connection(void *user, struct MHD_Connection *connection, void **context,
			  enum MHD_ConnectionNotificationCode code)
{
	struct server *server = user;
	struct peer *peer = *context;

	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (peer->prev)
			peer->prev->next = peer->next;
		else
			server->peers = peer->next;
		if (peer->next)
			peer->next->prev = peer->prev;
		free(peer);
		return;
	}
	peer = mem_new0(struct peer);
	peer->server = server;
	peer->fd =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	peer_identify(peer);
	peer->next = server->peers;
	if (peer->next)
		peer->next->prev = peer;
	server->peers = peer;
	await_request(peer);
	*context = peer;
}

static void *on_uri(void *user, const char *target, struct MHD_Connection *connection)
{
	struct server *server = user;

	struct request *req = http_request_new(server->api, target);

	(void) connection;
	req->next = server->requests;
	if (req->next)
		req->next->prev = req;
	server->requests = req;
	return req;
}

static void on_completed(void *user, struct MHD_Connection *connection, void **con_cls,
			 enum MHD_RequestTerminationCode code)
{
	struct server *server = user;
	struct request *req = *con_cls;

	(void) connection;
	(void) code;
	if (!req)
		return;
	if (req->peer)
		await_request(req->peer);
	if (req->prev)
		req->prev->next = req->next;
	else
		server->requests = req->next;
	if (req->next)
		req->next->prev = req->prev;
	http_request_free(req);
	*con_cls = NULL;
}

/* -- requests --------------------------------------------------------------------------------- */

static void answer_forbidden(struct request *req)
{
	const char *group = req->peer->server->config.group_name;
	AUTO(free) char *words = mem_printf("%s may not use this node", req->who);
	AUTO(free)
	char *hint =
		group ? mem_printf("become root, or have an administrator add you to the group "
				   "'%s' and log in again",
				   group)
		      : mem_strdup("become root");

	request_answer_status(req, MHD_HTTP_FORBIDDEN, words, hint, NULL, NULL);
}

/* Who asks?  An answer is set when they may not. */
static void check_access(struct request *req)
{
	struct peer *peer = req->peer;
	const char *name;

	req->who = peer->who;
	if (!peer->token_needed) {
		if (!peer->allowed)
			answer_forbidden(req);
		return;
	}
	name = auth_tokens_check(peer->server->config.tokens,
				 MHD_lookup_connection_value(req->connection, MHD_HEADER_KIND,
							     MHD_HTTP_HEADER_AUTHORIZATION));
	if (name)
		req->who = name;
	else
		request_answer_status(req, MHD_HTTP_UNAUTHORIZED, "a valid token is needed",
				      "send 'Authorization: Bearer TOKEN' with a token from the "
				      "node's token file",
				      MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer realm=\"brume\"");
}

static void answer_no_route(struct request *req)
{
	if (req->match.path_known) {
		AUTO(free) char *allowed = route_allowed_methods(&req->uri);
		AUTO(free) char *hint = mem_printf("methods here: %s", allowed);

		request_answer_status(req, MHD_HTTP_METHOD_NOT_ALLOWED,
				      "this path does not know the method", hint,
				      MHD_HTTP_HEADER_ALLOW, allowed);
		return;
	}
	AUTO(free) char *hint = route_hint(&req->uri);
	request_answer_status(req, MHD_HTTP_NOT_FOUND, "there is no such path",
			      hint ? hint : "docs/api.md lists all paths; they begin with /1.0",
			      NULL, NULL);
}

static bool has_body(struct request *req)
{
	const char *text = MHD_lookup_connection_value(req->connection, MHD_HEADER_KIND,
						       MHD_HTTP_HEADER_CONTENT_LENGTH);

	return (text && strcmp(text, "0") != 0) ||
	       MHD_lookup_connection_value(req->connection, MHD_HEADER_KIND,
					   MHD_HTTP_HEADER_TRANSFER_ENCODING);
}

/* True when the head already promises more than a JSON body may have. */
static bool announces_too_much(struct request *req)
{
	const char *text = MHD_lookup_connection_value(req->connection, MHD_HEADER_KIND,
						       MHD_HTTP_HEADER_CONTENT_LENGTH);

	return text && strtoull(text, NULL, 10) > REQUEST_BODY_MAX;
}

/* The head is in: everything that can be refused without the body is refused here. */
static void request_begin(struct request *req, const char *method)
{
	struct error err = {};

	check_access(req);
	if (req->response)
		return;
	if (req->uri_result < 0) {
		request_answer_error(
			req, req->uri_result, &req->uri_error,
			"write bytes beyond A-Z a-z 0-9 - . _ ~ as %XX of their UTF-8");
		return;
	}
	req->head = strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
	route_find(method, &req->uri, &req->match);
	if (!req->match.route) {
		if (req->match.path_known && strcmp(method, MHD_HTTP_METHOD_OPTIONS) == 0)
			request_answer_options(req);
		else
			answer_no_route(req);
		return;
	}
	int r = route_check_query(req->match.route, &req->uri, &err);
	if (r < 0) {
		request_answer_error(req, r, &err, NULL);
	} else if (req->match.route->kind != ROUTE_UPLOAD && announces_too_much(req)) {
		error_say(&err, -EFBIG, "body: at most %d bytes are allowed here",
			  REQUEST_BODY_MAX);
		request_answer_error(req, -EFBIG, &err, NULL);
	} else if (req->match.route->kind == ROUTE_UPLOAD) {
		/* The time limit is for heads and small bodies; this one may take hours. */
		req->peer->deadline_us = 0;
		r = req->match.route->handle(req, &err);
		if (r < 0)
			request_answer_error(req, r, &err, NULL);
	}
}

static enum MHD_Result take_body(struct request *req, const char *data, size_t *size)
{
	size_t used = *size;

	if (req->response || req->queued) {
		/* Refused already; the rest is read and dropped, so that the answer can be sent. */
	} else if (req->upload_data) {
		used = req->upload_data(req, data, *size, req->state);
		if (used == 0 && !req->response)
			request_suspend(req, 0);
	} else if (req->body.size + *size > REQUEST_BODY_MAX) {
		struct error err;

		error_say(&err, -EFBIG, "body: at most %d bytes are allowed here",
			  REQUEST_BODY_MAX);
		request_answer_error(req, -EFBIG, &err, NULL);
		strbuf_done(&req->body);
	} else {
		strbuf_append(&req->body, data, *size);
	}
	*size -= req->response ? *size : used;
	return MHD_YES;
}

static void request_handle(struct request *req)
{
	struct error err = {};
	int r = 0;

	req->handled = true;
	req->peer->deadline_us = 0;
	if (req->response)
		return;
	if (req->upload_end)
		req->upload_end(req, req->state);
	else
		r = req->match.route->handle(req, &err);
	if (r < 0)
		request_answer_error(req, r, &err, NULL);
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *url,
				  const char *method, const char *version, const char *data,
				  size_t *size, void **con_cls)
{
	struct request *req = *con_cls;

	(void) user;
	(void) url;
	(void) version;
	if (!req->begun) {
		req->begun = true;
		req->connection = connection;
		req->peer = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)
				    ->socket_context;
		request_begin(req, method);
		/* Answering before a body ends the connection; without one it can go on. */
		return req->response && has_body(req) ? request_queue(req) : MHD_YES;
	}
	if (*size > 0)
		return take_body(req, data, size);
	if (!req->handled)
		request_handle(req);
	if (req->response)
		return request_queue(req);
	if (!req->waiting) {
		request_answer_error(req, -EIO, NULL, NULL);
		return request_queue(req);
	}
	request_suspend(req, EPOLLRDHUP);
	return MHD_YES;
}

/* -- start and end ---------------------------------------------------------------------------- */

/* Paths and queries are decoded by codec/uri, which knows what may be in them. */
static size_t keep_escapes(void *user, struct MHD_Connection *connection, char *text)
{
	(void) user;
	(void) connection;
	return strlen(text);
}

static void on_log(void *user, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
static void on_log(void *user, const char *fmt, va_list ap)
{
	char line[256];

	(void) user;
	vsnprintf(line, sizeof(line), fmt, ap);
	log_debug("http: %s", line);
}

static int start_daemon(struct server *server, struct error *err)
{
	const struct server_config *config = &server->config;
	unsigned int flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE |
			     MHD_USE_ERROR_LOG | (config->fd < 0 ? MHD_USE_NO_LISTEN_SOCKET : 0);
	struct MHD_OptionItem extra[] = {
		{ MHD_OPTION_LISTEN_SOCKET, config->fd, NULL },
		{ MHD_OPTION_END, 0, NULL },
	};

	if (config->fd < 0)
		extra[0] = (struct MHD_OptionItem){ MHD_OPTION_PER_IP_CONNECTION_LIMIT,
						    PER_ADDRESS_MAX, NULL };
	server->daemon = MHD_start_daemon(
		flags, 0, NULL, NULL, on_request,
		server, /* comes first: it is used while starting */
		MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t) CONNECTION_MEMORY_SIZE, MHD_OPTION_CONNECTION_MEMORY_INCREMENT,
		(size_t) CONNECTION_MEMORY_STEP, MHD_OPTION_CONNECTION_LIMIT,
		config->connections_max, MHD_OPTION_CONNECTION_TIMEOUT, config->idle_s,
		MHD_OPTION_NOTIFY_COMPLETED, on_completed, server, MHD_OPTION_NOTIFY_CONNECTION,
		on_connection, server, MHD_OPTION_URI_LOG_CALLBACK, on_uri, server,
		MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_STRICT_FOR_CLIENT, 1,
		MHD_OPTION_ARRAY, extra, MHD_OPTION_END);
	if (!server->daemon)
		return error_say(err, -EINVAL, "HTTP server: the socket cannot be used");
	return 0;
}

int server_new(struct api *api, const struct server_config *config, struct server **ret,
	       struct error *err)
{
	AUTO(server_free) struct server *server = mem_new0(struct server);
	int r;

	server->api = api;
	server->config = *config;
	r = start_daemon(server, err);
	if (r < 0)
		return r;
	int fd = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
	r = sd_event_add_io(api->event, &server->io, fd, EPOLLIN, on_io, server);
	if (r >= 0)
		/* 1 us: the loop's default accuracy of 250 ms would delay every kept connection. */
		r = sd_event_add_time_relative(api->event, &server->timer, CLOCK_MONOTONIC, 0, 1,
					       on_timer, server);
	if (r >= 0)
		r = sd_event_add_time_relative(api->event, &server->sweep, CLOCK_MONOTONIC,
					       SWEEP_US, SWEEP_US / 4, on_sweep, server);
	if (r < 0)
		return error_set(err, r, "HTTP server");
	sd_event_source_set_enabled(server->io, SD_EVENT_OFF);
	sd_event_source_set_enabled(server->timer, SD_EVENT_OFF);
	*ret = TAKE_PTR(server);
	return 0;
}

void server_start(struct server *server)
{
	sd_event_source_set_enabled(server->io, SD_EVENT_ON);
	rearm(server);
}

int server_add(struct server *server, int fd, const struct sockaddr *address,
	       socklen_t address_size)
{
	/* The library closes the descriptor when it refuses, too. */
	if (MHD_add_connection(server->daemon, fd, address, address_size) != MHD_YES)
		return -ECONNREFUSED;
	server_kick(server);
	return 0;
}

void server_kick(struct server *server)
{
	if (!server->timer)
		return;
	sd_event_source_set_time(server->timer, 0);
	sd_event_source_set_enabled(server->timer, SD_EVENT_ONESHOT);
}

void server_free(struct server *server)
{
	if (!server)
		return;
	sd_event_source_disable_unref(server->io);
	server->timer = sd_event_source_disable_unref(server->timer);
	if (server->daemon) {
		/* The library does not stop over suspended connections. */
		for (struct request *req = server->requests; req; req = req->next)
			request_resume(req);
		MHD_stop_daemon(server->daemon);
	}
	sd_event_source_disable_unref(server->sweep);
	free(server);
}
