#include "codec/dbus.h"

#include <errno.h>
#include <string.h>

enum { FIXED_HEADER = 16, FIELDS_MAX = 64 << 10 };

enum field { FIELD_PATH = 1, FIELD_INTERFACE, FIELD_MEMBER, FIELD_ERROR, FIELD_REPLY_SERIAL };
enum { FIELD_DESTINATION = 6, FIELD_SIGNATURE = 8 };

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
static const char own_order = 'l';
#else
static const char own_order = 'B';
#endif

/* ---- writing ---- */

void dbus_put_align(struct strbuf *body, size_t alignment)
{
	static const char zeros[8];

	strbuf_append(body, zeros, -body->size & (alignment - 1));
}

void dbus_put_u32(struct strbuf *body, uint32_t value)
{
	dbus_put_align(body, 4);
	strbuf_append(body, &value, sizeof(value));
}

void dbus_put_u64(struct strbuf *body, uint64_t value)
{
	dbus_put_align(body, 8);
	strbuf_append(body, &value, sizeof(value));
}

void dbus_put_text(struct strbuf *body, const char *text)
{
	dbus_put_u32(body, (uint32_t) strlen(text));
	strbuf_append(body, text, strlen(text) + 1);
}

void dbus_put_signature(struct strbuf *body, const char *text)
{
	uint8_t size = (uint8_t) strlen(text);

	strbuf_append(body, &size, 1);
	strbuf_append(body, text, strlen(text) + 1);
}

size_t dbus_array_begin(struct strbuf *body, size_t alignment)
{
	size_t begun;

	dbus_put_u32(body, 0);
	begun = body->size - 4;
	dbus_put_align(body, alignment);
	/* The padding in front of the first element does not count. */
	memcpy(body->data + begun, &(uint32_t){ (uint32_t) body->size }, 4);
	return begun;
}

void dbus_array_end(struct strbuf *body, size_t begun)
{
	uint32_t first, size;

	memcpy(&first, body->data + begun, 4);
	size = (uint32_t) body->size - first;
	memcpy(body->data + begun, &size, 4);
}

static void put_property(struct strbuf *body, const char *name, const char *signature)
{
	dbus_put_align(body, 8);
	dbus_put_text(body, name);
	dbus_put_signature(body, signature);
}

void dbus_put_property_text(struct strbuf *body, const char *name, const char *value)
{
	put_property(body, name, "s");
	dbus_put_text(body, value);
}

void dbus_put_property_bool(struct strbuf *body, const char *name, int value)
{
	put_property(body, name, "b");
	dbus_put_u32(body, value != 0);
}

void dbus_put_property_u64(struct strbuf *body, const char *name, uint64_t value)
{
	put_property(body, name, "t");
	dbus_put_u64(body, value);
}

void dbus_put_property_pid(struct strbuf *body, const char *name, uint32_t pid)
{
	size_t array;

	put_property(body, name, "au");
	array = dbus_array_begin(body, 4);
	dbus_put_u32(body, pid);
	dbus_array_end(body, array);
}

static void put_field(struct strbuf *out, uint8_t code, const char *signature, const char *value)
{
	if (!value)
		return;
	dbus_put_align(out, 8);
	strbuf_append(out, &code, 1);
	dbus_put_signature(out, signature);
	if (signature[0] == 'g')
		dbus_put_signature(out, value);
	else
		dbus_put_text(out, value);
}

void dbus_call_encode(struct strbuf *out, const struct dbus_call *call, const struct strbuf *body)
{
	AUTO(strbuf_done) struct strbuf message = {};
	const char fixed[4] = { own_order, DBUS_CALL, 0, 1 };
	size_t array;

	strbuf_append(&message, fixed, sizeof(fixed));
	dbus_put_u32(&message, call->signature ? (uint32_t) body->size : 0);
	dbus_put_u32(&message, call->serial);
	array = dbus_array_begin(&message, 8);
	put_field(&message, FIELD_PATH, "o", call->path);
	put_field(&message, FIELD_INTERFACE, "s", call->interface);
	put_field(&message, FIELD_MEMBER, "s", call->member);
	put_field(&message, FIELD_DESTINATION, "s", call->destination);
	put_field(&message, FIELD_SIGNATURE, "g", call->signature);
	dbus_array_end(&message, array);
	dbus_put_align(&message, 8);
	if (call->signature)
		strbuf_append(&message, body->data, body->size);
	strbuf_append(out, message.data, message.size);
}

/* ---- reading ---- */

struct reader {
	const uint8_t *data;
	size_t size;
	size_t at;
};

static int align_to(struct reader *in, size_t alignment)
{
	size_t padding = -in->at & (alignment - 1);

	if (padding > in->size - in->at)
		return -EBADMSG;
	in->at += padding;
	return 0;
}

static int read_u32(struct reader *in, uint32_t *ret)
{
	if (align_to(in, 4) < 0 || in->size - in->at < 4)
		return -EBADMSG;
	memcpy(ret, in->data + in->at, 4);
	in->at += 4;
	return 0;
}

/* With its end, which must be the only NUL. */
static int read_bytes(struct reader *in, size_t length, const char **ret)
{
	const char *text = (const char *) in->data + in->at;

	if (length >= in->size - in->at || text[length] || memchr(text, 0, length))
		return -EBADMSG;
	in->at += length + 1;
	*ret = text;
	return 0;
}

static int read_text(struct reader *in, const char **ret)
{
	uint32_t length;
	int r = read_u32(in, &length);

	return r < 0 ? r : read_bytes(in, length, ret);
}

static int read_signature(struct reader *in, const char **ret)
{
	if (in->size == in->at)
		return -EBADMSG;
	return read_bytes(in, in->data[in->at++], ret);
}

static int read_field(struct reader *in, struct dbus_message *ret)
{
	const char *signature, *text = "";
	uint32_t number = 0;
	uint8_t code;
	int r;

	if (align_to(in, 8) < 0 || in->at == in->size)
		return -EBADMSG;
	code = in->data[in->at++];
	r = read_signature(in, &signature);
	if (r < 0)
		return r;
	if (strcmp(signature, "u") == 0)
		r = read_u32(in, &number);
	else if (strcmp(signature, "g") == 0)
		r = read_signature(in, &text);
	else if (strcmp(signature, "s") == 0 || strcmp(signature, "o") == 0)
		r = read_text(in, &text);
	else
		r = -EBADMSG;
	if (r < 0)
		return r;
	if (code == FIELD_MEMBER)
		ret->member = text;
	else if (code == FIELD_ERROR)
		ret->error = text;
	else if (code == FIELD_SIGNATURE)
		ret->signature = text;
	else if (code == FIELD_REPLY_SERIAL)
		ret->reply_serial = number;
	return 0;
}

int64_t dbus_message_size(const void *data, size_t size)
{
	uint32_t body, fields;

	if (size < FIXED_HEADER)
		return 0;
	if (*(const char *) data != own_order || ((const char *) data)[3] != 1)
		return -EBADMSG;
	memcpy(&body, (const char *) data + 4, 4);
	memcpy(&fields, (const char *) data + 12, 4);
	if (fields > FIELDS_MAX || body > DBUS_MESSAGE_MAX - FIELDS_MAX - FIXED_HEADER - 8)
		return -EMSGSIZE;
	return (int64_t) FIXED_HEADER + ((fields + 7) & ~7U) + body;
}

int dbus_message_decode(const void *data, size_t size, struct dbus_message *ret)
{
	struct dbus_message message = { .member = "", .error = "", .signature = "" };
	struct reader in = { .data = data, .at = FIXED_HEADER };
	int64_t whole = dbus_message_size(data, size);
	uint32_t fields;

	if (whole < 0)
		return (int) whole;
	if (whole == 0 || (uint64_t) whole != size)
		return -EBADMSG;
	message.type = in.data[1];
	memcpy(&message.serial, in.data + 8, 4);
	memcpy(&fields, in.data + 12, 4);
	in.size = FIXED_HEADER + fields;
	while (in.at < in.size) {
		int r = read_field(&in, &message);

		if (r < 0)
			return r;
	}
	message.body = in.data + FIXED_HEADER + ((fields + 7) & ~7U);
	message.body_size = size - (size_t) (message.body - in.data);
	*ret = message;
	return 0;
}

int dbus_read_u32(const struct dbus_message *message, size_t *at, uint32_t *ret)
{
	struct reader in = { message->body, message->body_size, *at };
	int r = read_u32(&in, ret);

	*at = in.at;
	return r;
}

int dbus_read_text(const struct dbus_message *message, size_t *at, const char **ret)
{
	struct reader in = { message->body, message->body_size, *at };
	int r = read_text(&in, ret);

	*at = in.at;
	return r;
}
