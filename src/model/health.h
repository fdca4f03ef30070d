#pragma once
/*
 * model/health.h - how to find out whether an instance does its work, and what was found.
 *
 * The check stands in the spec and is completed by the image's own; the result stands in the
 * status.  Shared by the command line, the API and the agent.  No state, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/meta.h"

struct error;
struct json_reader;

enum health_type {
	HEALTH_TYPE_IMAGE, /* what the image says; not written */
	HEALTH_TYPE_NONE,
	HEALTH_TYPE_EXEC,
	HEALTH_TYPE_HTTP,
	HEALTH_TYPE_TCP,
};

enum health_on_failure {
	HEALTH_ON_FAILURE_NONE,
	HEALTH_ON_FAILURE_RESTART,
	HEALTH_ON_FAILURE_STOP,
	HEALTH_ON_FAILURE_KILL,
};

enum {
	HEALTH_INTERVAL_MS = 30000,
	HEALTH_TIMEOUT_MS = 30000,
	HEALTH_RETRIES = 3,
	HEALTH_TIME_MIN_MS = 100,
	HEALTH_TIME_MAX_MS = 24 * 3600 * 1000,
	HEALTH_RETRIES_MAX = 1000,
	HEALTH_PATH_MAX_BYTES = 1024,
	HEALTH_LOG_MAX = 5,             /* results that are remembered */
	HEALTH_OUTPUT_MAX_BYTES = 1024, /* of one result, as written; escapes may make it longer */
};

extern const char *const health_type_names[]; /* from HEALTH_TYPE_NONE on: index + 1 */
extern const char *const health_on_failure_names[];

/* Numbers that are 0 are the image's, and then the defaults above or what is said here. */
struct health_check {
	enum health_type type;
	char **command; /* exec */
	uint16_t port;  /* http, tcp */
	char *path;     /* http: "/healthz?full=1" */
	uint32_t interval_ms;
	uint32_t timeout_ms;
	uint32_t start_period_ms;
	uint32_t start_interval_ms; /* in that period; 0: interval_ms */
	uint32_t retries;
	enum health_on_failure on_failure;
};

/* "[PORT]/PATH"; the port is 80 when it is left out. */
int health_parse_http(const char *text, struct health_check *check, struct error *err);

/* Begins with '/', and has no spaces or control characters: it stands in a request as it is. */
bool health_path_is_good(const char *path);

/* Nothing of it was said. */
bool health_check_is_empty(const struct health_check *check);

/* What only holds between the members. */
int health_check_valid(const struct health_check *check, struct error *err);

/* The check that is carried out: the spec's, completed by the image's (may be NULL). */
void health_check_merge(const struct health_check *spec, const struct health_check *image,
			struct health_check *ret);

/* The member `name` of `object`, when it is there. */
void health_check_read(struct json_reader *in, const json_t *object, const char *name,
		       struct health_check *check);
json_t *health_check_encode(const struct health_check *check);
void health_check_copy(struct health_check *to, const struct health_check *from);
void health_check_done(struct health_check *check);
static inline void health_check_done_autop(struct health_check *check)
{
	health_check_done(check);
}

/* ---- what was found ---- */

enum health_state { HEALTH_NONE, HEALTH_STARTING, HEALTH_HEALTHY, HEALTH_UNHEALTHY };
extern const char *const health_state_names[];

struct health_result {
	int64_t started_ms; /* realtime */
	uint32_t duration_ms;
	int32_t exit_code; /* 0 good; -1: it could not be run, or took too long */
	char *output;      /* its first bytes, valid UTF-8 */
};

struct health_status {
	enum health_state state; /* NONE: there is no check */
	uint32_t failing_streak;
	struct health_result log[HEALTH_LOG_MAX]; /* the newest last */
	size_t log_count;
};

/* Appends; the oldest one goes.  `output` is taken over. */
void health_status_add(struct health_status *status, int64_t started_ms, uint32_t duration_ms,
		       int32_t exit_code, char *output);

void health_status_read(struct json_reader *in, const json_t *object, const char *name,
			struct health_status *status);
json_t *health_status_encode(const struct health_status *status);
void health_status_copy(struct health_status *to, const struct health_status *from);
void health_status_done(struct health_status *status);
