#pragma once
/*
 * codec/frame.h - the frames of the agent link (docs/design/0001-contracts.md).
 *
 * A header of 16 bytes, little endian: u32 body size (1 MiB at most), u16 type, u16 zero, u64 id;
 * then the body.  Pure functions over bytes; used by api/ (brumed's end) and agent/ (the node's
 * end). What does not follow the format is -EPROTO: the connection is closed, the peer connects
 * again and everything is sent anew.
 */
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct error;
struct strbuf;

enum frame_type {
	FRAME_HELLO = 1,
	FRAME_ASSIGN = 2,
	FRAME_ASSIGNED_ALL = 3,
	FRAME_FORGET = 4,
	FRAME_STATUS = 5,
	FRAME_STREAM_OPEN = 6,
	FRAME_STREAM_DATA = 7,
	FRAME_STREAM_CREDIT = 8,
	FRAME_STREAM_CLOSE = 9,
	FRAME_GOODBYE = 10,
	FRAME_CALL = 11, /* 11 and 12: only on a machine's control socket (design 0007) */
	FRAME_RETURN = 12,
};

enum frame_channel {
	FRAME_CHANNEL_IN = 0,
	FRAME_CHANNEL_OUT = 1,
	FRAME_CHANNEL_ERR = 2,
	FRAME_CHANNEL_CONTROL = 3, /* JSON; costs no credit */
};

enum {
	FRAME_HEADER_SIZE = 16,
	FRAME_BODY_MAX = 1024 * 1024,
	FRAME_DATA_MAX = FRAME_BODY_MAX - 1, /* bytes of one stream_data beside the channel */
	FRAME_CREDIT_INITIAL = 256 * 1024,   /* of a new stream, each way */
	FRAME_IN_MAX = FRAME_HEADER_SIZE + FRAME_BODY_MAX + 1, /* for struct conn_limits.in_max */
};

/*
 * Credit counts the bytes behind the channel byte of stream_data on channels 0 to 2; the channel
 * byte itself, headers and channel 3 cost nothing.  Who sends more than its credit is disconnected.
 */

/* `body` points into the buffer it was decoded from. */
struct frame {
	enum frame_type type;
	uint64_t id;
	const char *body;
	size_t size;
};

/* "stream_data"; for logs and errors. */
const char *frame_type_name(enum frame_type type);

/* 1: *ret is a frame of *ret_used bytes.  0: more bytes are needed.  -EPROTO: not a frame. */
int frame_decode(const void *data, size_t size, struct frame *ret, size_t *ret_used,
		 struct error *err);

/*
 * Decodes all complete frames at the start of `in`, calls `handle` for each, and consumes them in
 * one step.  Stops at the first negative result and returns it.  `in` must stay alive and unchanged
 * while `handle` runs.
 */
typedef int (*frame_handle_fn)(const struct frame *frame, void *data, struct error *err);
int frame_read_all(struct strbuf *in, frame_handle_fn handle, void *data, struct error *err);

/*
 * Where a frame of that type and id may begin, when nobody knows where frames begin: a header that
 * has both.  For ids that are random.  SIZE_MAX: nowhere.
 */
size_t frame_find(const void *data, size_t size, enum frame_type type, uint64_t id);

/* Appends one frame.  The body must not be larger than FRAME_BODY_MAX. */
void frame_append(struct strbuf *out, enum frame_type type, uint64_t id, const void *body,
		  size_t size);

/* Appends a frame with a JSON body.  -EMSGSIZE when its text is over FRAME_BODY_MAX. */
int frame_append_json(struct strbuf *out, enum frame_type type, uint64_t id, const json_t *body);

/* Appends a stream_data frame; size <= FRAME_DATA_MAX. */
void frame_append_data(struct strbuf *out, uint64_t id, enum frame_channel channel,
		       const void *data, size_t size);

void frame_append_credit(struct strbuf *out, uint64_t id, uint32_t bytes);

/* The body as a JSON object, a new reference. */
int frame_json(const struct frame *frame, json_t **ret, struct error *err);

/* The parts of a stream_data body, borrowed from the frame. */
int frame_data(const struct frame *frame, enum frame_channel *ret_channel, const char **ret_data,
	       size_t *ret_size, struct error *err);

/* The number in a stream_credit body. */
int frame_credit(const struct frame *frame, uint32_t *ret_bytes, struct error *err);
