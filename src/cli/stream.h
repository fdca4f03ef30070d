#pragma once
/*
 * cli/stream.h - follows a WebSocket that only the server writes to, until it ends or Ctrl-C.
 *
 * Used by logs and events.
 */
#include <stdint.h>

#include "client/websocket.h"

struct error;

/* 0 when the server has ended the stream, 1 after Ctrl-C or a TERM, -errno. */
int stream_follow(struct websocket *websocket, struct error *err);

/* The same for as long as *timeout_ms (-1: no end), which is counted down; then -ETIMEDOUT. */
int stream_follow_for(struct websocket *websocket, int64_t *timeout_ms, struct error *err);

/* Waits before the server is asked again; 1 when Ctrl-C came. */
int stream_pause(int pause_ms);

/*
 * A text message that ends a stream: {"error": "..."} or {"error": {"message"}} gives -EIO with
 * those words; *ret_exit_code is set when there is one.  Anything else gives 0.
 */
int stream_control(const char *text, size_t size, int *ret_exit_code, struct error *err);
