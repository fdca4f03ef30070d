#pragma once
/*
 * cli/stream.h - follows a WebSocket until it ends or Ctrl-C, and goes on when the server is back.
 *
 * Used by all verbs that follow something: events, stats, wait, attachment.h and log_follow.h.
 */
#include <stdint.h>

#include "base/strbuf.h"
#include "client/websocket.h"

struct cli;
struct client;
struct error;

enum { STREAM_IN = 0, STREAM_OUT = 1, STREAM_ERR = 2 };

/* 0 when the server has ended the stream, 1 after Ctrl-C or a TERM, -errno. */
int stream_follow(struct websocket *websocket, struct error *err);

/* The same for as long as *timeout_ms (-1: no end), which is counted down; then -ETIMEDOUT. */
int stream_follow_for(struct websocket *websocket, int64_t *timeout_ms, struct error *err);

/*
 * A text message that ends a stream: {"error": "..."} or {"error": {"message"}} gives those words
 * and -EIO, -EHOSTDOWN (the node is away) or -ESRCH (what it is about does not run, or is not
 * there); *ret_exit_code is set when there is one, also with an error.  Anything else gives 0.
 */
int stream_control(const char *text, size_t size, int *ret_exit_code, struct error *err);

/*
 * Output whose place in the log is not known yet.  The server says {"cursor"} behind each piece:
 * only then it is shown, so that who connects again with the last cursor shows nothing twice.
 */
struct stream_pieces {
	struct strbuf waiting; /* {u32 size, channel, bytes} each */
	char *cursor;          /* NULL: none yet */
};

typedef int (*stream_piece_fn)(void *userdata, char channel, const char *data, size_t size,
			       struct error *err);

/* A binary message: the channel byte and bytes. */
void stream_pieces_add(struct stream_pieces *pieces, const char *data, size_t size);

/* A text message: after a cursor the pieces are shown; {"dropped"} is told. */
int stream_pieces_control(struct stream_pieces *pieces, struct cli *cli, const char *data,
			  size_t size, stream_piece_fn fn, void *userdata, struct error *err);

/* Shows what waits; at the end of a stream no cursor follows. */
int stream_pieces_flush(struct stream_pieces *pieces, stream_piece_fn fn, void *userdata,
			struct error *err);

/* Forgets what waits: it will come again. */
void stream_pieces_drop(struct stream_pieces *pieces);
void stream_pieces_done(struct stream_pieces *pieces);

struct stream_retry {
	bool connected;      /* set it when a connection was made */
	int tries, pause_ms; /* since the last progress */
};

enum stream_again { STREAM_GIVE_UP, STREAM_AGAIN, STREAM_INTERRUPTED };

/* Something came: the next failure is the first one again. */
void stream_retry_progress(struct stream_retry *retry);

/* Waits before the server is asked again, each time longer, and not too often. */
enum stream_again stream_retry_pause(struct stream_retry *retry);

/*
 * After a failure `r`: the same when it is worth to connect again, because the server is gone, or
 * the node's agent is.  STREAM_GIVE_UP when it has said no.
 */
enum stream_again stream_retry(struct stream_retry *retry, const struct client *client, int r);
