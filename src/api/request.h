#pragma once
/*
 * api/request.h - one HTTP request on its way through a handler, and the answer to it.
 *
 * A handler (api/routes.h) returns 0 after it has answered with one of the request_answer_*()
 * functions, or after it has called request_wait(), then somebody answers later; a negative errno
 * with words in `err` becomes an error answer.  Requests are made and freed by api/server; what a
 * handler wants to keep hangs on the request with request_keep().
 * Thread: the loop's.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "codec/uri.h"

struct api;
struct error;
struct request;
struct route;
struct ws;

enum { REQUEST_BODY_MAX = 1024 * 1024 };

/* The context of the handlers: everything below api/ that they may use. */
struct api *request_api(const struct request *req);
sd_event *request_event(const struct request *req);

/* Only the head of the answer is wanted; what costs much need not be done for it. */
bool request_is_head(const struct request *req);

/* Path variable number `i` of the route, decoded: "/1.0/instances/{name}" has one. */
const char *request_arg(const struct request *req, unsigned int i);

/* The project that the request is about: the query member, or "default". */
const char *request_project(const struct request *req);

/* A query member, NULL when absent.  The others check and give the default when absent. */
const char *request_query(const struct request *req, const char *name);
int request_query_bool(const struct request *req, const char *name, bool *ret, struct error *err);
int request_query_int(const struct request *req, const char *name, int64_t min, int64_t max,
		      int64_t *ret, struct error *err);

/* The revision in If-Match: *ret = 0 when there is none or "*". */
int request_if_match(const struct request *req, int64_t *ret, struct error *err);

/* The body as a JSON object; an empty body is an empty object.  A new reference. */
int request_json(const struct request *req, json_t **ret, struct error *err);

/* The superuser of this node asks, on the Unix socket. */
bool request_is_root(const struct request *req);

/* Calls `free_state(state)` when the request ends, however it ends.  One per request. */
void request_keep(struct request *req, void *state, void (*free_state)(void *state));

/* -- answers; each may be called once ------------------------------------------------------- */

/* One more header of the answer that comes; `name` is not copied.  At most one. */
void request_set_header(struct request *req, const char *name, const char *value);

/* 200 with `metadata`, which is handed over.  etag <= 0: none. */
void request_answer(struct request *req, json_t *metadata, int64_t etag);

/* The same when the whole document is text already; takes over what is in `document`. */
struct strbuf;
void request_answer_text(struct request *req, struct strbuf *document, int64_t etag);

/* 202 with the operation's resource (handed over) and its path. */
void request_answer_async(struct request *req, json_t *operation);

/* The status of the errno, `err`'s words and `hint` (may be NULL: a general one). */
void request_answer_error(struct request *req, int code, const struct error *err, const char *hint);

/*
 * A body that comes bit by bit.  `read` fills at most `size` bytes and returns how many; 0 means
 * nothing now: call request_body_ready() later; REQUEST_BODY_END and REQUEST_BODY_BROKEN end it.
 */
enum { REQUEST_BODY_END = -1, REQUEST_BODY_BROKEN = -2 };
typedef ssize_t (*request_read_fn)(struct request *req, char *data, size_t size, void *state);
void request_answer_body(struct request *req, const char *content_type, request_read_fn read,
			 void *state);
void request_body_ready(struct request *req);

/*
 * Makes the connection a WebSocket: `open` is called with the request's kept state, which from then
 * on belongs to it, and must set the callbacks with ws_new() from `setup`.
 */
struct ws_setup;
typedef void (*request_open_fn)(struct api *api, const struct ws_setup *setup, void *state);
int request_upgrade(struct request *req, request_open_fn open, struct error *err);

/* -- bodies that come bit by bit (ROUTE_UPLOAD) -------------------------------------------------
 */

/*
 * `data` takes at most `size` bytes and returns how many; with 0 it is called again after
 * request_upload_ready().  `end` is called when the body is complete, unless there is an answer
 * already.  An answer given before the end is sent at the end: the rest of the body is dropped.
 */
typedef size_t (*request_data_fn)(struct request *req, const char *data, size_t size, void *state);
typedef void (*request_end_fn)(struct request *req, void *state);
void request_upload(struct request *req, request_data_fn data, request_end_fn end);
void request_upload_ready(struct request *req);

/* -- waiting ------------------------------------------------------------------------------------
 */

/*
 * The answer comes later.  `gone` (may be NULL) is called when the client has hung up; it may still
 * answer (a client that has only closed its sending side reads it).  Afterwards the request's kept
 * state is freed as usual.
 */
void request_wait(struct request *req, void (*gone)(struct request *req, void *state));
