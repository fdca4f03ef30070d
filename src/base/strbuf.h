#pragma once
/*
 * base/strbuf.h - a growing byte string, always NUL-terminated.
 *
 *	AUTO(strbuf_done) struct strbuf buf = {};
 *	strbuf_printf(&buf, "%s=%d", name, value);
 *
 * A zeroed struct is an empty buffer.  Not for sizes that outsiders choose without a limit.
 */
#include <stddef.h>

#include "base/cleanup.h"

struct strbuf {
	char *data; /* NULL while empty */
	size_t size;
	size_t capacity;
};

void strbuf_append(struct strbuf *buf, const void *data, size_t size);
void strbuf_puts(struct strbuf *buf, const char *s);
void strbuf_printf(struct strbuf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * A stranger's text so that only printable UTF-8 is left: a backslash is doubled, every byte that
 * does not belong becomes "\xNN".
 */
void strbuf_put_printable(struct strbuf *buf, const char *text, size_t size);

/* Makes room for `size` more bytes and returns where they go; commit with strbuf_grown(). */
void *strbuf_reserve(struct strbuf *buf, size_t size);
void strbuf_grown(struct strbuf *buf, size_t size);

/* Drops the first `size` bytes. */
void strbuf_consume(struct strbuf *buf, size_t size);

/* The text, "" when empty; borrowed. */
const char *strbuf_str(const struct strbuf *buf);

/* Hands the text to the caller (never NULL); the buffer is empty afterwards. */
char *strbuf_take(struct strbuf *buf);

void strbuf_done(struct strbuf *buf);
static inline void strbuf_done_autop(struct strbuf *buf)
{
	strbuf_done(buf);
}
