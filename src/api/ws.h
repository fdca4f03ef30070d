#pragma once
/*
 * api/ws.h - one WebSocket (RFC 6455, server side) over an upgraded HTTP connection.
 *
 * Used by api/events, api/exec and api/logs; frames are wslay's work, bytes are base/conn's.
 * Back-pressure both ways: ws_send() says when to hold back until `drained`, ws_pause() stops
 * reading.  Silent peers are pinged and, when they stay silent, dropped.
 * Thread: the loop's.  A ws may be freed inside any of its callbacks.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"

struct error;
struct ws;

enum { WS_MESSAGE_MAX = 1024 * 1024, WS_ACCEPT_SIZE = 29 };

struct ws_ops {
	/* NULL: whatever the client says is dropped. */
	void (*message)(struct ws *ws, bool text, const char *data, size_t size, void *user);
	/* The queue is short again after ws_send() has said 1.  May be NULL. */
	void (*drained)(struct ws *ws, void *user);
	/* The last call; the owner calls ws_free(). */
	void (*closed)(struct ws *ws, void *user);
};

/* How the socket is given back when the WebSocket ends. */
typedef void (*ws_release_fn)(void *release_data);

/* All WebSockets of a server, so that it can stop. */
struct ws_list {
	struct ws *first;
};

struct ws_setup {
	int fd;            /* borrowed until `release` is called */
	const void *extra; /* bytes that came together with the handshake */
	size_t extra_size;
	uint64_t ping_us;     /* silence after which the peer is pinged, and then dropped */
	struct ws_list *list; /* must outlive the ws */
	ws_release_fn release;
	void *release_data;
};

/* The Sec-WebSocket-Accept value of a client's key.  -EINVAL when the key is not 16 bytes of
 * base64. */
int ws_accept_key(const char *key, char ret[WS_ACCEPT_SIZE]);

/* On failure the caller still has to call setup->release(). */
int ws_new(sd_event *event, const struct ws_setup *setup, const struct ws_ops *ops, void *user,
	   struct ws **ret, struct error *err);

/* Queues one message.  0; 1: hold back until `drained`; -ENOBUFS, -EPIPE: nothing was queued. */
int ws_send(struct ws *ws, bool text, const void *data, size_t size);

void ws_pause(struct ws *ws, bool paused);

/*
 * Sends what is queued and a close frame, then goes away by itself: the caller forgets `ws`, none
 * of its callbacks is called again.  `code` is a WebSocket status code, 1000 for a normal end.
 */
void ws_finish(struct ws *ws, uint16_t code, const char *reason);

/* Ends all at once; their owners are told. */
void ws_end_all(struct ws_list *list);

/* Ends at once. */
void ws_free(struct ws *ws);
DEFINE_AUTO(struct ws *, ws_free)
