#pragma once
/*
 * cli/when.h - points in time as people type them: "10m" ago, or a date.  Pure.
 */
#include <stdint.h>

struct error;

/*
 * "90s", "10m", "1h30m", "2d" before `now_ms`; "2026-11-21T01:30:00Z", "2026-11-21", or seconds
 * since 1970.  `what` names the place in the message ("--since").
 */
int when_parse(const char *text, const char *what, int64_t now_ms, int64_t *ret_ms,
	       struct error *err);
