#pragma once
/*
 * client/client.h - the API of a brume server as function calls.
 *
 * Used by cli/.  One thread per client; calls wait for the answer.  Nothing is kept on disk.
 *
 * Why no libcurl: it costs 5 to 8 ms of start-up (30 shared libraries), `brume list` and `brume
 * exec` have a budget of 20 ms in all, and a WebSocket needs the connection itself.  The API is one
 * server of ours over a Unix socket or TLS; client/http_response decodes its answers, bounded, and
 * is fuzzed.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct client;
struct error;
struct websocket;

struct client_options {
	const char *host;    /* see client/endpoint.h */
	const char *token;   /* bearer token or NULL */
	const char *ca_file; /* PEM, or NULL: the system's authorities */
	const char *project; /* NULL: the server's default */
};

/* Checks the options only; the first call connects. */
int client_new(const struct client_options *options, struct client **ret, struct error *err);

/*
 * One request.  `path` is below /1.0 and may have a query ("/instances?recursion=1"); the project
 * is added.  `body` may be NULL.  *ret (may be NULL) is the answer's metadata, a new reference.
 * Errors of the server come back as its words; see client_status() and client_hint().
 */
int client_request(struct client *client, const char *method, const char *path, const json_t *body,
		   json_t **ret, struct error *err);

/* Delivers the next bytes of a body: a count, 0 at its end, -errno. */
typedef ssize_t (*client_source_fn)(void *userdata, void *data, size_t size, struct error *err);

/* POST or PUT with a body that is made while it is sent (a tar). */
int client_upload(struct client *client, const char *method, const char *path,
		  client_source_fn source, void *userdata, json_t **ret, struct error *err);

typedef int (*client_sink_fn)(void *userdata, const void *data, size_t size);

/* GET of something that is not JSON; only a successful answer reaches `sink`. */
int client_download(struct client *client, const char *path, client_sink_fn sink, void *userdata,
		    struct error *err);

/* A WebSocket on a connection of its own. */
int client_open_websocket(struct client *client, const char *path, struct websocket **ret,
			  struct error *err);

/* While `fd` is readable, requests that wait return -EINTR (and their connection is dropped). */
void client_set_wakeup(struct client *client, int fd);

/*
 * While requests wait, `fn` is called each time `fd` is readable, until it says false: a stream of
 * the same thread that must be listened to.  -1: none.
 */
void client_set_aside(struct client *client, int fd, bool (*fn)(void *userdata), void *userdata);

/* About the last failed call: HTTP status (0 when there was no answer) and what to do ("" = nothing
 * to say). */
int client_status(const struct client *client);
const char *client_hint(const struct client *client);

void client_free(struct client *client);
DEFINE_AUTO(struct client *, client_free)
