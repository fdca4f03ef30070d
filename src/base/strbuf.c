#include "base/strbuf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void *strbuf_reserve(struct strbuf *buf, size_t size)
{
	size_t need = buf->size + size + 1;

	if (need > buf->capacity) {
		size_t capacity = buf->capacity ? buf->capacity * 2 : 128;
		while (capacity < need)
			capacity *= 2;
		buf->data = mem_realloc(buf->data, capacity, 1);
		buf->capacity = capacity;
	}
	/* Also when nothing comes of it the text ends where it ended. */
	buf->data[buf->size] = '\0';
	return buf->data + buf->size;
}

void strbuf_grown(struct strbuf *buf, size_t size)
{
	assert(buf->size + size < buf->capacity);
	buf->size += size;
	buf->data[buf->size] = '\0';
}

void strbuf_append(struct strbuf *buf, const void *data, size_t size)
{
	void *to = strbuf_reserve(buf, size);

	if (size)
		memcpy(to, data, size);
	strbuf_grown(buf, size);
}

void strbuf_puts(struct strbuf *buf, const char *s)
{
	strbuf_append(buf, s, strlen(s));
}

void strbuf_printf(struct strbuf *buf, const char *fmt, ...)
{
	size_t room = 64;
	char *to = strbuf_reserve(buf, room);
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(to, room + 1, fmt, ap);
	va_end(ap);
	assert(n >= 0);

	if ((size_t) n > room) {
		to = strbuf_reserve(buf, (size_t) n);
		va_start(ap, fmt);
		vsnprintf(to, (size_t) n + 1, fmt, ap);
		va_end(ap);
	}
	strbuf_grown(buf, (size_t) n);
}

void strbuf_consume(struct strbuf *buf, size_t size)
{
	assert(size <= buf->size);
	if (size == 0)
		return;
	memmove(buf->data, buf->data + size, buf->size - size);
	buf->size -= size;
	buf->data[buf->size] = '\0';
}

const char *strbuf_str(const struct strbuf *buf)
{
	return buf->data ? buf->data : "";
}

char *strbuf_take(struct strbuf *buf)
{
	char *text = buf->data ? TAKE_PTR(buf->data) : mem_strdup("");

	/* What was reserved but not grown may have been written to. */
	text[buf->size] = '\0';
	*buf = (struct strbuf){};
	return text;
}

void strbuf_done(struct strbuf *buf)
{
	free(buf->data);
	*buf = (struct strbuf){};
}
