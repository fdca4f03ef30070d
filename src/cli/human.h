#pragma once
/*
 * cli/human.h - sizes, times and texts as people read them.  Pure functions.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/strbuf.h"

enum { HUMAN_SIZE = 32 };

/* "0 B", "999 B", "1.5 KiB", "212 MiB": three digits and a unit. */
void human_bytes(uint64_t bytes, char ret[HUMAN_SIZE]);

/* "0s", "59s", "5m", "2h", "3d", "2y": the two largest units while they say something ("5m 12s").
 */
void human_duration(int64_t ms, char ret[HUMAN_SIZE]);

/* Local time, "2026-11-21 01:30:00"; "-" for a text that is no RFC 3339 time. */
void human_time(const char *rfc3339, char ret[HUMAN_SIZE]);

/*
 * Appends a text of a stranger so that it cannot command the terminal: control characters (also the
 * C1 range, and bytes that are not UTF-8) become '?'.
 */
void human_text(struct strbuf *out, const char *text);

/* Columns of a terminal that UTF-8 text takes, one per character. */
size_t human_width(const char *text);
