#pragma once
/*
 * base/clock.h - time and randomness as arguments, so that tests own both.
 *
 * Real programs pass clock_system() and rng_system(); tests pass structs of their own.
 */
#include <stddef.h>
#include <stdint.h>

struct clock {
	/* Milliseconds since 1970 UTC: for timestamps that people read. */
	int64_t (*realtime_ms)(struct clock *clock);
	/* Microseconds of a clock that never jumps: for durations and time-outs. */
	uint64_t (*monotonic_us)(struct clock *clock);
};

struct rng {
	void (*fill)(struct rng *rng, void *data, size_t size);
};

struct clock *clock_system(void);
struct rng *rng_system(void);

static inline int64_t clock_realtime_ms(struct clock *clock)
{
	return clock->realtime_ms(clock);
}

static inline uint64_t clock_monotonic_us(struct clock *clock)
{
	return clock->monotonic_us(clock);
}

enum { CLOCK_RFC3339_SIZE = 32, UID_SIZE = 33 };

/* "2026-11-21T01:30:00.123Z", 0 for a time of 0 gives "". */
void clock_format_rfc3339(int64_t realtime_ms, char ret[CLOCK_RFC3339_SIZE]);

/* Parses what clock_format_rfc3339() writes, and other RFC 3339 times.  0 or -EINVAL. */
int clock_parse_rfc3339(const char *text, int64_t *ret_realtime_ms);

/* 128 random bits as 32 lower-case hex digits: the identity of a resource, never used again. */
void rng_uid(struct rng *rng, char ret[UID_SIZE]);
