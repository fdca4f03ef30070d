#include "codec/frame.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/strbuf.h"

static const char *const type_names[] = {
	[FRAME_HELLO] = "hello",
	[FRAME_ASSIGN] = "assign",
	[FRAME_ASSIGNED_ALL] = "assigned_all",
	[FRAME_FORGET] = "forget",
	[FRAME_STATUS] = "status",
	[FRAME_STREAM_OPEN] = "stream_open",
	[FRAME_STREAM_DATA] = "stream_data",
	[FRAME_STREAM_CREDIT] = "stream_credit",
	[FRAME_STREAM_CLOSE] = "stream_close",
	[FRAME_GOODBYE] = "goodbye",
	[FRAME_CALL] = "call",
	[FRAME_RETURN] = "return",
};

struct header {
	uint32_t size;
	uint16_t type;
	uint16_t zero;
	uint64_t id;
};
_Static_assert(sizeof(struct header) == FRAME_HEADER_SIZE, "the header has no padding");

const char *frame_type_name(enum frame_type type)
{
	return type < ARRAY_COUNT(type_names) && type_names[type] ? type_names[type] : "unknown";
}

int frame_decode(const void *data, size_t size, struct frame *ret, size_t *ret_used,
		 struct error *err)
{
	struct header header;

	if (size < sizeof(header))
		return 0;
	memcpy(&header, data, sizeof(header));
	uint32_t body_size = le32toh(header.size);
	uint16_t type = le16toh(header.type);

	if (header.zero != 0 || type == 0 || type >= ARRAY_COUNT(type_names))
		return error_say(err, -EPROTO, "agent link: frame type %u is not known", type);
	if (body_size > FRAME_BODY_MAX)
		return error_say(err, -EPROTO,
				 "agent link: %s frame of %u bytes, at most %d are allowed",
				 type_names[type], body_size, FRAME_BODY_MAX);
	if (size - sizeof(header) < body_size)
		return 0;
	*ret = (struct frame){ .type = type,
			       .id = le64toh(header.id),
			       .body = (const char *) data + sizeof(header),
			       .size = body_size };
	*ret_used = sizeof(header) + body_size;
	return 1;
}

int frame_read_all(struct strbuf *in, frame_handle_fn handle, void *data, struct error *err)
{
	size_t offset = 0;
	int r = 0;

	while (r >= 0 && offset < in->size) {
		struct frame frame;
		size_t used = 0;

		r = frame_decode(in->data + offset, in->size - offset, &frame, &used, err);
		if (r <= 0)
			break;
		offset += used;
		r = handle(&frame, data, err);
	}
	strbuf_consume(in, offset);
	return r < 0 ? r : 0;
}

size_t frame_find(const void *data, size_t size, enum frame_type type, uint64_t id)
{
	const size_t type_at = offsetof(struct header, type);
	struct header header = { .type = htole16((uint16_t) type), .id = htole64(id) };
	const char *found;

	if (size < sizeof(header))
		return SIZE_MAX;
	found = memmem((const char *) data + type_at, size - type_at,
		       (const char *) &header + type_at, sizeof(header) - type_at);
	return found ? (size_t) (found - (const char *) data) - type_at : SIZE_MAX;
}

static void append_header(struct strbuf *out, enum frame_type type, uint64_t id, size_t size)
{
	struct header header = { .size = htole32((uint32_t) size),
				 .type = htole16((uint16_t) type),
				 .id = htole64(id) };

	assert(size <= FRAME_BODY_MAX);
	strbuf_append(out, &header, sizeof(header));
}

void frame_append(struct strbuf *out, enum frame_type type, uint64_t id, const void *body,
		  size_t size)
{
	append_header(out, type, id, size);
	strbuf_append(out, body, size);
}

int frame_append_json(struct strbuf *out, enum frame_type type, uint64_t id, const json_t *body)
{
	AUTO(free) char *text = json_text(body);
	size_t size = strlen(text);

	if (size > FRAME_BODY_MAX)
		return -EMSGSIZE;
	frame_append(out, type, id, text, size);
	return 0;
}

void frame_append_data(struct strbuf *out, uint64_t id, enum frame_channel channel,
		       const void *data, size_t size)
{
	uint8_t byte = (uint8_t) channel;

	append_header(out, FRAME_STREAM_DATA, id, size + 1);
	strbuf_append(out, &byte, 1);
	strbuf_append(out, data, size);
}

void frame_append_credit(struct strbuf *out, uint64_t id, uint32_t bytes)
{
	uint32_t value = htole32(bytes);

	frame_append(out, FRAME_STREAM_CREDIT, id, &value, sizeof(value));
}

int frame_json(const struct frame *frame, json_t **ret, struct error *err)
{
	AUTO(json_decref) json_t *value = NULL;
	int r = json_parse(frame->body, frame->size, FRAME_BODY_MAX, &value, err);

	if (r < 0)
		return error_wrap(err, -EPROTO, "agent link: %s", frame_type_name(frame->type));
	if (!json_is_object(value))
		return error_say(err, -EPROTO, "agent link: %s: the body must be an object",
				 frame_type_name(frame->type));
	*ret = TAKE_PTR(value);
	return 0;
}

int frame_data(const struct frame *frame, enum frame_channel *ret_channel, const char **ret_data,
	       size_t *ret_size, struct error *err)
{
	if (frame->size < 1 || (uint8_t) frame->body[0] > FRAME_CHANNEL_CONTROL)
		return error_say(err, -EPROTO,
				 "agent link: stream_data must start with channel 0 to 3");
	*ret_channel = (enum frame_channel) frame->body[0];
	*ret_data = frame->body + 1;
	*ret_size = frame->size - 1;
	return 0;
}

int frame_credit(const struct frame *frame, uint32_t *ret_bytes, struct error *err)
{
	uint32_t value;

	if (frame->size != sizeof(value))
		return error_say(err, -EPROTO, "agent link: stream_credit must have 4 bytes");
	memcpy(&value, frame->body, sizeof(value));
	*ret_bytes = le32toh(value);
	return 0;
}
