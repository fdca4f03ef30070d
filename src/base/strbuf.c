#include "base/strbuf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* How many bytes of valid UTF-8 that can be printed begin here; 0 = this byte is none. */
static size_t printable(const char *text, size_t size)
{
	static const unsigned char heads[] = { 0xc2, 0xe0, 0xf0, 0xf5 };
	unsigned char head = (unsigned char) text[0];
	size_t more = 0;

	if (head < 0x80)
		return head >= 0x20 && head < 0x7f && head != '\\';
	while (more < 3 && head >= heads[more])
		more++;
	if (more == 0 || head >= heads[3] || more >= size)
		return 0;
	for (size_t i = 1; i <= more; i++)
		if (((unsigned char) text[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong forms, surrogates and the second range of control characters. */
	unsigned char next = (unsigned char) text[1];
	if ((head == 0xe0 && next < 0xa0) || (head == 0xed && next >= 0xa0) ||
	    (head == 0xf0 && next < 0x90) || (head == 0xf4 && next >= 0x90) ||
	    (head == 0xc2 && next < 0xa0))
		return 0;
	return more + 1;
}

void strbuf_put_printable(struct strbuf *buf, const char *text, size_t size)
{
	for (size_t i = 0; i < size;) {
		size_t n = printable(text + i, size - i);

		if (n > 0)
			strbuf_append(buf, text + i, n);
		else if (text[i] == '\\')
			strbuf_puts(buf, "\\\\");
		else
			strbuf_printf(buf, "\\x%02x", (unsigned char) text[i]);
		i += n > 0 ? n : 1;
	}
}

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
