#pragma once
/*
 * model/member.h - JSON members of the kinds that resources have and base/json.h does not know:
 * enumerations, string maps, uids, nested objects with their own path.
 *
 * Used by the decoders and encoders of model/.  No state, thread-safe.
 */
#include <jansson.h>

#include "base/clock.h"
#include "base/json.h"

enum { MEMBER_PATH_MAX = 96 };

/* "where.name", or "name" when `where` is empty; cut when too long (it is only for messages). */
const char *member_path(char buf[MEMBER_PATH_MAX], const char *where, const char *name);

/* Records an error at a member, "where.name: message", unless the reader has failed before. */
int member_fail(struct json_reader *in, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* A string of at most `max_bytes`. */
int member_read_text(struct json_reader *in, const json_t *object, const char *name,
		     size_t max_bytes, char **ret);

/* 32 lower-case hex digits. */
int member_read_uid(struct json_reader *in, const json_t *object, const char *name,
		    char ret[UID_SIZE]);

/* One of `names` (NULL-terminated); *ret is its index. */
int member_read_enum(struct json_reader *in, const json_t *object, const char *name,
		     const char *const *names, unsigned int *ret);

/* {"KEY": "value"} as "KEY=value" strings; keys are not empty and have no '='. */
int member_read_map(struct json_reader *in, const json_t *object, const char *name, char ***ret);
void member_put_map(json_t *object, const char *name, char *const *map); /* empty: nothing */

void member_put_uint(json_t *object, const char *name, uint64_t value); /* 0: nothing */

/* Index of `text` in a NULL-terminated list, -EINVAL when it is not there. */
int member_enum_index(const char *const *names, const char *text);

/* Is `text` 32 lower-case hex digits? */
bool uid_is_valid(const char *text);
