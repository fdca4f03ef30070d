#pragma once
/*
 * client/transport.h - a connected byte stream to a server: a Unix socket, or TLS over TCP.
 *
 * Used by client/client (requests) and client/websocket (streams).  One thread.  The descriptor is
 * never blocking; functions that wait do so with poll(), and can be woken by another descriptor,
 * which is how Ctrl-C interrupts a long request.
 */
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct endpoint;
struct error;
struct transport;

/* `ca_file` may be NULL: then the system's certificate authorities are trusted. */
int transport_open(const struct endpoint *endpoint, const char *ca_file, struct transport **ret,
		   struct error *err);

/* Waiting functions return -EINTR as soon as `fd` is readable; -1 for none. */
void transport_set_wakeup(struct transport *transport, int fd);

/* Another stream that must not be left alone while functions here wait. */
struct transport_aside {
	int fd;                     /* -1: none */
	bool (*fn)(void *userdata); /* `fd` is readable; false: it is not looked at any more */
	void *userdata;
};

/* `aside` is borrowed for as long as the transport lives. */
void transport_set_aside(struct transport *transport, struct transport_aside *aside);

/* Count of bytes, 0 at the end of the stream, -errno. */
ssize_t transport_read(struct transport *transport, void *data, size_t size, struct error *err);
int transport_write(struct transport *transport, const void *data, size_t size, struct error *err);

/* The same without waiting: -EAGAIN when it would have to; no words then. */
ssize_t transport_try_read(struct transport *transport, void *data, size_t size, struct error *err);
ssize_t transport_try_write(struct transport *transport, const void *data, size_t size,
			    struct error *err);

int transport_fd(const struct transport *transport);

/* Bytes that are decrypted already: poll() on the descriptor would not tell of them. */
bool transport_pending(const struct transport *transport);

void transport_free(struct transport *transport);
DEFINE_AUTO(struct transport *, transport_free)
