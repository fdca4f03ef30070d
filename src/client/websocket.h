#pragma once
/*
 * client/websocket.h - the client's end of a WebSocket, for event loops made of poll().
 *
 * Used by cli/ for exec, logs and events.  One thread.  Messages are at most WEBSOCKET_MESSAGE_MAX;
 * pings are answered here.
 */
#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

struct error;
struct transport;
struct websocket;

enum { WEBSOCKET_MESSAGE_MAX = 4 * 1024 * 1024 };

/* `data` is borrowed for the call and NUL-terminated for text.  A negative return ends
 * websocket_process(). */
typedef int (*websocket_message_fn)(void *userdata, bool text, const char *data, size_t size,
				    struct error *err);

/*
 * Takes over `transport`, on which the upgrade has happened; `early` are bytes that came behind the
 * server's answer.
 */
int websocket_new(struct transport *transport, const void *early, size_t early_size,
		  struct websocket **ret, struct error *err);

void websocket_set_handler(struct websocket *websocket, websocket_message_fn fn, void *userdata);

/* Queues a message; websocket_process() sends it. */
int websocket_send(struct websocket *websocket, bool text, const void *data, size_t size,
		   struct error *err);

/* Bytes that wait to be sent: stop reading your input while there are many. */
size_t websocket_queued_bytes(const struct websocket *websocket);

int websocket_fd(const struct websocket *websocket);

/* What to poll for, or 0 when there is something to process right now. */
short websocket_events(const struct websocket *websocket);

/*
 * Sends and receives what is possible without waiting and calls the handler.  Returns 0, 1 when the
 * server has closed, -errno or the handler's error.
 */
int websocket_process(struct websocket *websocket, struct error *err);

/* Begins the end: the server is told that no more comes. */
void websocket_close(struct websocket *websocket);

void websocket_free(struct websocket *websocket);
DEFINE_AUTO(struct websocket *, websocket_free)

/* The value that a server must answer to `key` (RFC 6455); `ret` is NUL-terminated. */
enum { WEBSOCKET_ACCEPT_SIZE = 29, WEBSOCKET_KEY_SIZE = 25 };
void websocket_accept_key(const char *key, char ret[WEBSOCKET_ACCEPT_SIZE]);
