#include "base/error.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Appends ": tail" to err->msg, of which `used` bytes are taken. */
static void append(struct error *err, int used, const char *tail)
{
	size_t size = sizeof(err->msg);

	if (used < 0 || (size_t) used + 2 >= size)
		return;
	memcpy(err->msg + used, ": ", 2);
	used += 2;

	size_t room = size - (size_t) used - 1;
	size_t n = strnlen(tail, room);
	memcpy(err->msg + used, tail, n);
	err->msg[(size_t) used + n] = '\0';
}

/* What strangers wrote ends up in messages: it must not begin new lines or steer a terminal. */
static void keep_one_line(struct error *err)
{
	for (char *p = err->msg; *p; p++)
		if ((unsigned char) *p < ' ' || *p == 0x7f)
			*p = '?';
}

int error_set(struct error *err, int code, const char *fmt, ...)
{
	va_list ap;

	assert(code < 0);
	if (!err)
		return code;

	va_start(ap, fmt);
	int used = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);

	append(err, used, strerror(-code));
	keep_one_line(err);
	err->code = code;
	return code;
}

int error_say(struct error *err, int code, const char *fmt, ...)
{
	va_list ap;

	assert(code < 0);
	if (!err)
		return code;

	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	keep_one_line(err);
	err->code = code;
	return code;
}

int error_wrap(struct error *err, int r, const char *fmt, ...)
{
	struct error inner;
	va_list ap;

	if (!err)
		return r;
	inner = *err;

	va_start(ap, fmt);
	int used = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);

	append(err, used, inner.msg);
	keep_one_line(err);
	return r;
}
