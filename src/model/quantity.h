#pragma once
/*
 * model/quantity.h - the small texts people write for sizes, processors and policies.
 *
 * Shared by the command line and the API, so that both accept and refuse the same.
 * No state, thread-safe.
 */
#include <stdint.h>

struct error;

/* "512M", "1.5G", "65536", "64KiB": powers of 1024.  `what` names the place in messages. */
int memory_parse(const char *text, const char *what, uint64_t *ret_bytes, struct error *err);

/* "100M", "1.5G", "64kbit", "9600": bits a second, powers of 1000. */
int rate_parse(const char *text, const char *what, uint64_t *ret_bps, struct error *err);

/* "2", "0.5"; at least 0.01. */
int cpus_parse(const char *text, const char *what, double *ret, struct error *err);

/* "30s", "500ms", "1m30s", "2h"; a bare number is seconds.  At most a day. */
int duration_parse(const char *text, const char *what, uint32_t *ret_ms, struct error *err);

enum restart_policy { RESTART_NO, RESTART_ON_FAILURE, RESTART_ALWAYS, RESTART_UNLESS_STOPPED };
extern const char *const restart_policy_names[];

/* "no", "on-failure", "on-failure:3", "always", "unless-stopped"; 0 retries means no limit. */
int restart_parse(const char *text, enum restart_policy *ret, uint32_t *ret_max_retries,
		  struct error *err);
