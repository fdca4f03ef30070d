#pragma once
/*
 * api/tls.h - a TLS listener: what arrives encrypted on TCP goes on as plain bytes through a socket
 * pair to the HTTP server.
 *
 * Used by api/api.  The HTTP library could do TLS itself, but moves a WebSocket over TLS in pieces
 * of four bytes; and this way every handler sees the same plain socket.  GnuTLS does the
 * cryptography, base/conn the plain side.  Bounded: connections, time for the handshake, bytes that
 * wait in either direction.
 * Thread: the loop's.
 */
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"

struct error;
struct tls;

struct tls_config {
	int fd;               /* a listening TCP socket; taken over on success */
	const char *cert_pem; /* borrowed for the call */
	const char *key_pem;
	unsigned int connections_max;

	/* A client has shaken hands: `fd` (handed over) carries its plain bytes.  Negative:
	 * refused. */
	int (*accepted)(int fd, const struct sockaddr *address, socklen_t address_size, void *user);
	void *user;
};

int tls_new(sd_event *event, const struct tls_config *config, struct tls **ret, struct error *err);

/* Until then connections wait in the socket's backlog. */
void tls_start(struct tls *tls);

void tls_free(struct tls *tls);
DEFINE_AUTO(struct tls *, tls_free)
