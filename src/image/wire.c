#include "image/wire_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

enum { READ_SIZE = 65536 };

int wire_send(int fd, json_t *object)
{
	AUTO(json_decref) json_t *own = object;
	AUTO(free) char *text = json_dumps(object, JSON_COMPACT);
	AUTO(strbuf_done) struct strbuf line = {};

	if (!text)
		return -EINVAL;
	strbuf_puts(&line, text);
	strbuf_puts(&line, "\n");
	for (size_t sent = 0; sent < line.size;) {
		ssize_t n = send(fd, line.data + sent, line.size - sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		sent += (size_t) n;
	}
	return 0;
}

int wire_next(struct wire *wire, json_t **ret, struct error *err)
{
	char *end = wire->in.size > wire->scanned ? memchr(wire->in.data + wire->scanned, '\n',
							   wire->in.size - wire->scanned)
						  : NULL;
	json_t *object = NULL;
	int r;

	*ret = NULL;
	if (!end) {
		wire->scanned = wire->in.size;
		if (wire->in.size > WIRE_LINE_MAX)
			return error_say(err, -EFBIG, "a message is longer than %d bytes",
					 WIRE_LINE_MAX);
		return 0;
	}
	size_t size = (size_t) (end - wire->in.data);
	r = json_parse(wire->in.data, size, WIRE_LINE_MAX, &object, err);
	strbuf_consume(&wire->in, size + 1);
	wire->scanned = 0;
	if (r < 0)
		return r;
	if (!json_is_object(object)) {
		json_decref(object);
		return error_say(err, -EINVAL, "a message is not a JSON object");
	}
	*ret = object;
	return 0;
}

int wire_fill(struct wire *wire)
{
	ssize_t n;

	do
		n = read(wire->fd, strbuf_reserve(&wire->in, READ_SIZE), READ_SIZE);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	strbuf_grown(&wire->in, (size_t) n);
	return (int) n;
}

int wire_receive(struct wire *wire, json_t **ret, struct error *err)
{
	for (;;) {
		int r = wire_next(wire, ret, err);

		if (r < 0 || *ret)
			return r;
		r = wire_fill(wire);
		if (r < 0)
			return error_set(err, r, "read a message");
		if (r == 0)
			return error_say(err, -EPIPE, "the other side is gone");
	}
}

void wire_done(struct wire *wire)
{
	strbuf_done(&wire->in);
}

char *wire_path_encode(const char *path)
{
	struct strbuf text = {};

	for (const char *p = path; *p; p++) {
		if (*p >= ' ' && *p < 0x7f && *p != '%')
			strbuf_append(&text, p, 1);
		else
			strbuf_printf(&text, "%%%02x", (unsigned char) *p);
	}
	return strbuf_take(&text);
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int wire_path_decode(const char *text, char **ret)
{
	AUTO(free) char *path = mem_strdup(text);
	char *to = path;

	for (const char *p = text; *p; p++) {
		char c = *p;

		if (c == '%') {
			int high = hex_value(p[1]), low = high < 0 ? -1 : hex_value(p[2]);

			if (low < 0 || (high | low) == 0)
				return -EINVAL;
			c = (char) (high << 4 | low);
			p += 2;
		}
		*to++ = c;
	}
	*to = '\0';
	*ret = TAKE_PTR(path);
	return 0;
}
