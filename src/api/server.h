#pragma once
/*
 * api/server.h - one HTTP listener on the event loop: libmicrohttpd in external epoll mode.
 *
 * Used by api/api, once for the Unix socket and once for TCP with TLS.  Owns the connections, their
 * limits and time-outs, decides who is let in (api/auth.h) and calls the handler of the route.
 * Thread: the loop's.
 */
#include <stdbool.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct api;
struct auth_tokens;
struct error;
struct server;

struct server_config {
	int fd;   /* a listening socket; taken over on success */
	bool tls; /* TCP: TLS and tokens; otherwise a Unix socket and peer credentials */
	const char *cert_pem; /* with tls; borrowed for the call */
	const char *key_pem;
	const struct auth_tokens *tokens; /* borrowed for the server's life */
	gid_t group;                      /* who may use the Unix socket; (gid_t) -1: only root */
	const char *group_name;           /* for words; borrowed for the server's life */
	unsigned int connections_max;
	unsigned int idle_s;    /* a connection without any byte for so long is closed */
	unsigned int request_s; /* a request must be complete after so long */
};

int server_new(struct api *api, const struct server_config *config, struct server **ret,
	       struct error *err);

/* Until then connections wait in the socket's backlog. */
void server_start(struct server *server);

/*
 * The library learns of resumed and closed connections only when it runs; this makes it run soon.
 */
void server_kick(struct server *server);

/* Closes all connections.  WebSockets must have ended before. */
void server_free(struct server *server);
DEFINE_AUTO(struct server *, server_free)
