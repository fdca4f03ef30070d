#pragma once
/*
 * vmm/ratelimit.h - two token buckets, for operations and for bytes: what a device may do per
 * second.
 *
 * A request passes when neither bucket is empty and then takes what it costs, also beyond empty: a
 * request larger than the burst passes too, and the next ones wait longer.  Time is an argument, so
 * tests turn the clock.  Plain structs, nothing to free.  Used by blk, nic and rng.
 * Thread: the one that owns the device.
 */
#include <stdbool.h>
#include <stdint.h>

struct ratelimit_options {
	uint64_t ops_per_second, bytes_per_second; /* 0: unlimited */
	uint64_t ops_burst, bytes_burst;           /* 0: what one tenth of a second brings */
};

/* The time at which the bucket will be full again; it is empty when that is `burst_ns` away. */
struct ratelimit_bucket {
	uint64_t per_second, burst_ns, full_at_ns;
};

struct ratelimit {
	struct ratelimit_bucket ops, bytes;
};

void ratelimit_init(struct ratelimit *limit, const struct ratelimit_options *options);

static inline bool ratelimit_is_limited(const struct ratelimit *limit)
{
	return limit->ops.per_second || limit->bytes.per_second;
}

/* True: it passes.  False: it must wait until *ret_due_ns. */
bool ratelimit_take(struct ratelimit *limit, uint64_t now_ns, uint64_t bytes, uint64_t *ret_due_ns);

/* The same in two steps, when the size is not known before. */
bool ratelimit_ready(const struct ratelimit *limit, uint64_t now_ns, uint64_t *ret_due_ns);
void ratelimit_charge(struct ratelimit *limit, uint64_t now_ns, uint64_t bytes);

/* CLOCK_MONOTONIC, as the loop's timers. */
uint64_t ratelimit_now_ns(void);
