#pragma once
/*
 * agent/guest_stream.h - streams of the link that the guest of a virtual machine answers: exec,
 * files and top.
 *
 * The link and the guest channel speak the same frames with the same credit, so arguments, bytes
 * and ends are handed on; what a guest says about itself for others to parse is decoded and built
 * anew.  Used by exec.c, files.c and top.c, which ask first whether the instance is a machine.
 * Thread: the loop's.
 */
#include "agent/stream.h"

struct guest;

/*
 * `arguments` are the stream's, checked by the caller; `uid` is left out for the guest.
 * `json_max` > 0: the answer is one JSON document of at most that size, and `rebuild` makes of it
 * what is sent (a new reference, or NULL when it is not understood).
 */
struct guest_stream_kind {
	size_t json_max;
	json_t *(*rebuild)(const json_t *answer);
};

void guest_stream_open(struct stream *stream, struct guest *guest, const json_t *arguments,
		       const struct guest_stream_kind *kind, const struct stream_ops **ret_ops,
		       void **ret_data);
