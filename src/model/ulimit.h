#pragma once
/*
 * model/ulimit.h - limits of each process of an instance (setrlimit), as people write them.
 *
 * Shared by the command line, the API and the agent.  No state, thread-safe.
 */
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct error;
struct json_reader;

enum { ULIMITS_MAX = 16 };
#define ULIMIT_UNLIMITED UINT64_MAX

struct ulimit {
	const char *name; /* "nofile": one of a fixed list */
	uint64_t soft, hard;
};

/* "nofile=1024", "nofile=1024:4096", "core=unlimited" */
int ulimit_parse(const char *text, struct ulimit *ret, struct error *err);

/* The first name that is there twice, or NULL. */
const char *ulimits_twice(const struct ulimit *list, size_t count);

int ulimits_read(struct json_reader *in, const json_t *object, const char *name,
		 struct ulimit **ret, size_t *ret_count);
json_t *ulimits_encode(const struct ulimit *list, size_t count);
