#pragma once
/*
 * api/server.h - one HTTP listener on the event loop: libmicrohttpd in external epoll mode.
 *
 * Used by api/api, once for the Unix socket and once for what comes through
 * api/tls.  Owns the connections, their
 * limits and time-outs, decides who is let in (api/auth.h) and calls the handler of the route.
 * Thread: the loop's.
 */
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct api;
struct auth_tokens;
struct error;
struct server;

struct server_config {
	int fd; /* a listening Unix socket; taken over on success.  -1: clients come by server_add()
		 */
	const struct auth_tokens *tokens; /* borrowed for the server's life */
	gid_t group;                      /* who may use the Unix socket; (gid_t) -1: only root */
	const char *group_name;           /* for words; borrowed for the server's life */
	unsigned int connections_max;
	unsigned int idle_s;    /* a connection without any byte for so long is closed */
	unsigned int request_s; /* a request must be complete after so long */
};

int server_new(struct api *api, const struct server_config *config, struct server **ret,
	       struct error *err);

/*
 * A client of TLS: `fd` (taken over in any case) carries its plain bytes, and each of its requests
 * must carry a token.
 */
int server_add(struct server *server, int fd, const struct sockaddr *address,
	       socklen_t address_size);

/* Until then connections wait in the socket's backlog. */
void server_start(struct server *server);

/*
 * The library learns of resumed and closed connections only when it runs; this makes it run soon.
 */
void server_kick(struct server *server);

/* Closes all connections.  WebSockets must have ended before. */
void server_free(struct server *server);
DEFINE_AUTO(struct server *, server_free)
