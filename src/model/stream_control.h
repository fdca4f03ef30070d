#pragma once
/*
 * model/stream_control.h - what a client says beside its input while it runs or watches a program.
 *
 * The messages of exec and attach: `{"resize":{"width","height"}}`, `{"signal":"TERM"}`,
 * `{"eof":true}`, `{"detach":true}`, and any of them together.  Used by api/, which refuses what is
 * wrong, and by the agent, which does it.  No state, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct error;

struct stream_control {
	uint32_t width, height; /* of the terminal; 0: stays as it is */
	int signal;             /* number; 0: none */
	bool eof;               /* the input has ended */
	bool detach;            /* the client leaves, its input does not end; attach only */
};

/* *ret is untouched after -EINVAL. */
int stream_control_decode(const json_t *message, struct stream_control *ret, struct error *err);
