#pragma once
/*
 * client/http_response.h - decodes one HTTP/1.1 answer as its bytes arrive.
 *
 * Used by client/client and client/websocket, and by the fuzzer.  Pure: no I/O, one object per
 * answer. Bodies come by Content-Length, chunked, or until the connection ends; they are handed on
 * as they arrive and never collected here.  Everything is bounded: the head to HTTP_HEAD_MAX_BYTES,
 * chunk lines and trailers too.  Ambiguous framing (two lengths, a length and chunks) is refused.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/strbuf.h"

struct error;

enum { HTTP_HEAD_MAX_BYTES = 32 * 1024 };

enum http_state {
	HTTP_STATE_HEAD,
	HTTP_STATE_LENGTH,     /* `left` bytes of body */
	HTTP_STATE_UNTIL_END,  /* body until the connection ends */
	HTTP_STATE_CHUNK_LINE, /* "1a3\r\n" */
	HTTP_STATE_CHUNK,
	HTTP_STATE_CHUNK_END, /* "\r\n" after the data of a chunk */
	HTTP_STATE_TRAILER,
	HTTP_STATE_DONE,
};

/* A zeroed struct is ready.  The members below are valid once `head_done`. */
struct http_response {
	bool head_done;
	int status;
	bool keep_alive;
	bool json;              /* Content-Type: application/json */
	char websocket_key[64]; /* Sec-WebSocket-Accept, "" when absent */

	/* private */
	enum http_state state;
	struct strbuf line; /* the head, or the line being collected */
	uint64_t left;
	size_t trailer_bytes;
	bool has_length, chunked, http10;
};

/* Receives pieces of the body; a negative return ends the decoding with that error. */
typedef int (*http_body_fn)(void *userdata, const void *data, size_t size);

/*
 * Takes in bytes.  Returns 1 when the answer is complete (*ret_used tells how many bytes belonged
 * to it; after status 101 the rest is the new protocol's), 0 when more is needed, -EPROTO or what
 * `body` returned.  Interim answers (100, 102, 103) are skipped.
 */
int http_response_feed(struct http_response *response, const void *data, size_t size,
		       size_t *ret_used, http_body_fn body, void *userdata, struct error *err);

/* The connection has ended: 0 when the answer is complete with that, else -ECONNRESET. */
int http_response_end(struct http_response *response, struct error *err);

void http_response_done(struct http_response *response);
static inline void http_response_done_autop(struct http_response *response)
{
	http_response_done(response);
}
