#pragma once
/*
 * client/endpoint.h - where a server is: a Unix socket of this machine or https://HOST[:PORT].
 *
 * Used by client/transport and the command line.  Pure functions.
 *
 * Plain http:// is refused: a bearer token would travel in the clear.
 */
#include <stdint.h>

#include "base/cleanup.h"

struct error;

enum { ENDPOINT_DEFAULT_PORT = 8443 };

struct endpoint {
	char *socket_path; /* or NULL, then host and port */
	char *host;        /* without the brackets of an IPv6 address */
	uint16_t port;
};

/* Accepts "/path", "unix:///path", "https://host", "https://host:port", "https://[v6]:port". */
int endpoint_parse(const char *text, struct endpoint *ret, struct error *err);

void endpoint_done(struct endpoint *endpoint);
static inline void endpoint_done_autop(struct endpoint *endpoint)
{
	endpoint_done(endpoint);
}
