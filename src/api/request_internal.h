#pragma once
/*
 * api/request_internal.h - what api/server, api/request and api/answer share about a request.
 *
 * The life of one: `http_request_new` when the request line is parsed, `request_begin` when the
 * head is in, the body, the handler, an answer, and `http_request_free` when it has been sent or
 * the client is gone.  While a request waits its connection is suspended, which the HTTP library
 * does not watch: `hangup` does.
 */
#include <microhttpd.h>

#include "api/request.h"
#include "api/routes.h"
#include "base/error.h"
#include "base/strbuf.h"

struct server;

/* One connection; the socket context of the HTTP library. */
struct peer {
	struct server *server;
	int fd;
	char who[64];
	bool allowed;         /* by the credentials of the Unix socket */
	bool root;            /* the superuser, on the Unix socket */
	bool token_needed;    /* TCP: each request carries a bearer token */
	uint64_t deadline_us; /* the next request must be complete by then; 0: none */
	struct peer *prev, *next;
};

struct request {
	struct request *prev, *next; /* all of the server's */
	struct api *api;
	struct peer *peer;
	struct MHD_Connection *connection;
	const char *who;
	struct uri uri;
	int uri_result;
	struct error uri_error;
	struct route_match match;
	bool begun;
	bool handled;
	bool head; /* HEAD: the answer's body is not sent */

	struct strbuf body;
	bool body_too_large;
	request_data_fn upload_data;
	request_end_fn upload_end;

	void *state;
	void (*free_state)(void *state);

	const char *header; /* one more of the answer, or NULL */
	char *header_value;
	struct MHD_Response *response;
	unsigned int status;
	bool queued;
	request_read_fn read;
	void *read_state;
	request_open_fn open;

	bool waiting;   /* request_wait(): the handler has returned without an answer */
	bool broken;    /* the client has hung up */
	bool suspended; /* the HTTP library does not look at the connection */
	void (*gone)(struct request *req, void *state);
	sd_event_source *hangup;
};

struct request *http_request_new(struct api *api, const char *target);
void http_request_free(struct request *req);

/* Leaves the connection alone until request_resume(); both are idempotent. */
void request_suspend(struct request *req, uint32_t watch_events);
void request_resume(struct request *req);

/* An error answer with a status and a header (may be NULL) of its own. */
void request_answer_status(struct request *req, unsigned int status, const char *words,
			   const char *hint, const char *header, const char *value);

/* 204 with the methods that the path knows. */
void request_answer_options(struct request *req);

/* Gives the response to the HTTP library. */
enum MHD_Result request_queue(struct request *req);
