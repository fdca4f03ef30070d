#include "codec/criu_rpc.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/* How a value stands on the wire. */
enum wire { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

/* ---- writing ---- */

static void put_varint(struct strbuf *out, uint64_t value)
{
	uint8_t bytes[10];
	size_t n = 0;

	do {
		bytes[n] = (uint8_t) (value & 0x7f);
		value >>= 7;
		bytes[n++] |= value ? 0x80 : 0;
	} while (value);
	strbuf_append(out, bytes, n);
}

static void put_number(struct strbuf *out, unsigned int field, uint64_t value)
{
	put_varint(out, (uint64_t) field << 3 | WIRE_VARINT);
	put_varint(out, value);
}

static void put_bytes(struct strbuf *out, unsigned int field, const void *data, size_t size)
{
	put_varint(out, (uint64_t) field << 3 | WIRE_BYTES);
	put_varint(out, size);
	strbuf_append(out, data, size);
}

static void put_text(struct strbuf *out, unsigned int field, const char *text)
{
	put_bytes(out, field, text, strlen(text));
}

static void put_message(struct strbuf *out, unsigned int field, const struct strbuf *message)
{
	put_bytes(out, field, strbuf_str(message), message->size);
}

void criu_put_number(struct strbuf *options, enum criu_option option, uint64_t value)
{
	put_number(options, option, value);
}

void criu_put_switch(struct strbuf *options, enum criu_option option, bool on)
{
	if (on)
		put_number(options, option, 1);
}

void criu_put_text(struct strbuf *options, enum criu_option option, const char *text)
{
	if (text)
		put_text(options, option, text);
}

void criu_put_mount(struct strbuf *options, const char *key, const char *value)
{
	AUTO(strbuf_done) struct strbuf pair = {};

	put_text(&pair, 1, key);
	put_text(&pair, 2, value);
	put_message(options, CRIU_OPT_EXT_MOUNT, &pair);
}

void criu_put_inherit(struct strbuf *options, const char *key, int fd)
{
	AUTO(strbuf_done) struct strbuf pair = {};

	put_text(&pair, 1, key);
	put_number(&pair, 2, (uint64_t) fd);
	put_message(options, CRIU_OPT_INHERIT_FD, &pair);
}

void criu_put_cgroup_root(struct strbuf *options, const char *path)
{
	AUTO(strbuf_done) struct strbuf root = {};

	put_text(&root, 2, path);
	put_message(options, CRIU_OPT_CGROUP_ROOT, &root);
}

void criu_request_encode(struct strbuf *out, enum criu_type type, const struct strbuf *options)
{
	put_number(out, 1, type);
	if (options)
		put_message(out, 2, options);
}

void criu_notify_encode(struct strbuf *out, bool success)
{
	put_number(out, 1, CRIU_NOTIFY);
	put_number(out, 3, success);
}

/* ---- reading ---- */

struct reader {
	const uint8_t *at;
	const uint8_t *end;
};

struct field {
	uint64_t number;
	uint64_t value;     /* of a number */
	struct reader text; /* of anything with a length */
};

static int read_varint(struct reader *in, uint64_t *ret)
{
	uint64_t value = 0;

	for (unsigned int shift = 0; shift < 64 && in->at < in->end; shift += 7) {
		uint8_t byte = *in->at++;

		value |= (uint64_t) (byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*ret = value;
			return 0;
		}
	}
	return -EBADMSG;
}

static int skip(struct reader *in, size_t size)
{
	if ((size_t) (in->end - in->at) < size)
		return -EBADMSG;
	in->at += size;
	return 0;
}

/* 1 with a field, 0 at the end, or -EBADMSG. */
static int read_field(struct reader *in, struct field *ret)
{
	uint64_t key, size;

	*ret = (struct field){};
	if (in->at == in->end)
		return 0;
	if (read_varint(in, &key) < 0)
		return -EBADMSG;
	ret->number = key >> 3;
	switch (key & 7) {
	case WIRE_VARINT:
		return read_varint(in, &ret->value) < 0 ? -EBADMSG : 1;
	case WIRE_FIXED64:
		return skip(in, 8) < 0 ? -EBADMSG : 1;
	case WIRE_FIXED32:
		return skip(in, 4) < 0 ? -EBADMSG : 1;
	case WIRE_BYTES:
		if (read_varint(in, &size) < 0 || size > (size_t) (in->end - in->at))
			return -EBADMSG;
		ret->text = (struct reader){ in->at, in->at + size };
		in->at += size;
		return 1;
	default:
		return -EBADMSG;
	}
}

static void copy_text(char *to, size_t size, const struct reader *from)
{
	size_t n = (size_t) (from->end - from->at);

	n = n < size - 1 ? n : size - 1;
	if (n)
		memcpy(to, from->at, n);
	to[n] = '\0';
}

/* Numbers that have to fit; others are as good as none. */
static int small(uint64_t value)
{
	return value > INT_MAX ? 0 : (int) value;
}

static int read_notify(struct reader in, struct criu_reply *ret)
{
	struct field field;
	int r;

	while ((r = read_field(&in, &field)) > 0) {
		if (field.number == 1)
			copy_text(ret->script, sizeof(ret->script), &field.text);
		else if (field.number == 2)
			ret->pid = small(field.value);
	}
	return r;
}

static int read_restored(struct reader in, struct criu_reply *ret)
{
	struct field field;
	int r;

	while ((r = read_field(&in, &field)) > 0)
		if (field.number == 1)
			ret->pid = small(field.value);
	return r;
}

static int read_version(struct reader in, struct criu_reply *ret)
{
	int number[3] = {};
	struct field field;
	int r;

	while ((r = read_field(&in, &field)) > 0) {
		/* major, minor, (name of the revision), sublevel */
		size_t i = field.number == 4 ? 2 : field.number - 1;

		if (field.number >= 1 && field.number <= 4 && field.number != 3)
			number[i] = field.value < 100 ? (int) field.value : 99;
	}
	ret->version = number[0] * 10000 + number[1] * 100 + number[2];
	return r;
}

int criu_reply_decode(const void *data, size_t size, struct criu_reply *ret)
{
	struct reader in = { data, (const uint8_t *) data + size };
	struct criu_reply reply = {};
	struct field field;
	int r;

	while ((r = read_field(&in, &field)) > 0) {
		if (field.number == 1)
			reply.type = field.value;
		else if (field.number == 2)
			reply.success = field.value != 0;
		else if (field.number == 4)
			r = read_restored(field.text, &reply);
		else if (field.number == 5)
			r = read_notify(field.text, &reply);
		else if (field.number == 10)
			r = read_version(field.text, &reply);
		if (r < 0)
			return r;
	}
	if (r < 0 || !reply.type)
		return -EBADMSG;
	*ret = reply;
	return 0;
}
