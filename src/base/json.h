#pragma once
/*
 * base/json.h - reading JSON that strangers wrote, with errors that name the place.
 *
 *	struct json_reader in = { .err = err, .where = "spec.limits" };
 *	json_read_string(&in, object, "name", &name);
 *	...
 *	return json_reader_finish(&in, object);
 *
 * A reader remembers the first error and does nothing afterwards, so a decoder is a list of reads
 * and one check.  An absent (or null) member leaves the target untouched.  json_reader_finish()
 * refuses members that nobody read: what was asked for and is not done is never dropped silently.
 * Strings handed out are new; the caller frees them.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct error;

enum { JSON_READ_MAX = 96 };

struct json_reader {
	struct error *err;
	const char *where; /* path of the object, "" for the document itself */
	int result;        /* 0 or the first error */
	unsigned int count;
	const char *known[JSON_READ_MAX]; /* member names read so far */
};

/* Parses a document of at most `max_bytes`; *ret is a new reference. */
int json_parse(const char *text, size_t size, size_t max_bytes, json_t **ret, struct error *err);

/* Each returns 0 or the reader's error; type mismatch and range are errors that say what is right.
 */
int json_read_string(struct json_reader *in, const json_t *object, const char *name, char **ret);
int json_read_bool(struct json_reader *in, const json_t *object, const char *name, bool *ret);
int json_read_int(struct json_reader *in, const json_t *object, const char *name, int64_t min,
		  int64_t max, int64_t *ret);
int json_read_uint32(struct json_reader *in, const json_t *object, const char *name, uint32_t max,
		     uint32_t *ret);
int json_read_uint64(struct json_reader *in, const json_t *object, const char *name, uint64_t *ret);
int json_read_number(struct json_reader *in, const json_t *object, const char *name, double *ret);

/* *ret is NULL-terminated, see strv.h; its old value is freed. */
int json_read_strv(struct json_reader *in, const json_t *object, const char *name, char ***ret);

/* *ret is borrowed from `object`, untouched when absent; anything but the type is an error. */
int json_read_object(struct json_reader *in, const json_t *object, const char *name, json_t **ret);
int json_read_array(struct json_reader *in, const json_t *object, const char *name, json_t **ret);

/* A member that may be of any type: only marks it as known. */
void json_read_any(struct json_reader *in, const json_t *object, const char *name, json_t **ret);

/* Refuses unknown members, returns the result. */
int json_reader_finish(struct json_reader *in, const json_t *object);

/* Text of a value, compact and with sorted keys: equal values give equal texts.  Caller frees. */
char *json_text(const json_t *value);

/* Sets a member only when there is something to say. */
void json_put_string(json_t *object, const char *name, const char *value); /* NULL or "": nothing */
void json_put_time(json_t *object, const char *name,
		   int64_t realtime_ms);                                 /* RFC 3339; 0: nothing */
void json_put_strv(json_t *object, const char *name, char *const *strv); /* NULL: nothing */
int json_read_time(struct json_reader *in, const json_t *object, const char *name,
		   int64_t *ret_realtime_ms);

DEFINE_AUTO(json_t *, json_decref)
