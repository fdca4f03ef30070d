#pragma once
/*
 * client/tls.h - TLS on a connected socket, with the server's certificate checked.
 *
 * Used by client/transport, which owns the socket and does all the waiting: every function here
 * returns at once.  One thread.
 */
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct error;
struct tls;

/* `ca_file` may be NULL: then the system's certificate authorities are trusted. */
int tls_new(int fd, const char *host, const char *ca_file, struct tls **ret, struct error *err);

/* 0 when it is done; -EAGAIN: call again when the socket has the events in *ret_events. */
int tls_handshake(struct tls *tls, short *ret_events, struct error *err);

/* Count of bytes, 0 at the end of the stream, -EAGAIN without words when it would have to wait. */
ssize_t tls_read(struct tls *tls, void *data, size_t size, struct error *err);
ssize_t tls_write(struct tls *tls, const void *data, size_t size, struct error *err);

/* Bytes that are decrypted already. */
bool tls_pending(const struct tls *tls);

void tls_free(struct tls *tls);
DEFINE_AUTO(struct tls *, tls_free)
