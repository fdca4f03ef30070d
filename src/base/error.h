#pragma once
/*
 * base/error.h - what went wrong, in words, next to a negative errno.
 *
 * Lives on the caller's stack; never allocates, so it works in a forked child and when memory is
 * gone.  The message is one line for a human: what was wrong, where, what would be right.
 */

struct error {
	int code;      /* 0, or a negative errno */
	char msg[480]; /* "outer: inner: strerror", NUL-terminated, may be cut */
};

/* Records `code` (< 0) and a message followed by strerror(code); `err` may be NULL.  Returns
 * `code`. */
int error_set(struct error *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The same without strerror(): for messages that already say everything. */
int error_say(struct error *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts context in front of an error already set.  Returns its code `r`. */
int error_wrap(struct error *err, int r, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
