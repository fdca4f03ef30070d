#include "vmm/ratelimit.h"

#include <stddef.h>
#include <time.h>

#define SECOND_NS 1000000000ull

enum { COST_MAX_SHIFT = 33 /* times SECOND_NS still fits into 64 bits */ };

static uint64_t cost_ns(uint64_t count, uint64_t per_second)
{
	if (count > 1ull << COST_MAX_SHIFT)
		count = 1ull << COST_MAX_SHIFT;
	/* Rounded up, so that a fast device is not given time for free. */
	return (count * SECOND_NS + per_second - 1) / per_second;
}

static void bucket_init(struct ratelimit_bucket *bucket, uint64_t per_second, uint64_t burst)
{
	*bucket = (struct ratelimit_bucket){ .per_second = per_second };
	if (per_second == 0)
		return;
	bucket->burst_ns = burst ? cost_ns(burst, per_second) : SECOND_NS / 10;
	if (bucket->burst_ns == 0)
		bucket->burst_ns = 1;
}

void ratelimit_init(struct ratelimit *limit, const struct ratelimit_options *options)
{
	static const struct ratelimit_options none = {};

	if (!options)
		options = &none;
	bucket_init(&limit->ops, options->ops_per_second, options->ops_burst);
	bucket_init(&limit->bytes, options->bytes_per_second, options->bytes_burst);
}

/* When it is not empty any more; `now_ns` or earlier: it is not empty now. */
static uint64_t bucket_due(const struct ratelimit_bucket *bucket)
{
	if (bucket->per_second == 0 || bucket->full_at_ns < bucket->burst_ns)
		return 0;
	return bucket->full_at_ns - bucket->burst_ns + 1;
}

static void bucket_take(struct ratelimit_bucket *bucket, uint64_t now_ns, uint64_t count)
{
	if (bucket->per_second == 0)
		return;
	if (bucket->full_at_ns < now_ns)
		bucket->full_at_ns = now_ns;
	bucket->full_at_ns += cost_ns(count, bucket->per_second);
}

bool ratelimit_ready(const struct ratelimit *limit, uint64_t now_ns, uint64_t *ret_due_ns)
{
	uint64_t ops = bucket_due(&limit->ops), size = bucket_due(&limit->bytes);
	uint64_t due = ops > size ? ops : size;

	if (due <= now_ns)
		return true;
	*ret_due_ns = due;
	return false;
}

void ratelimit_charge(struct ratelimit *limit, uint64_t now_ns, uint64_t bytes)
{
	bucket_take(&limit->ops, now_ns, 1);
	bucket_take(&limit->bytes, now_ns, bytes);
}

bool ratelimit_take(struct ratelimit *limit, uint64_t now_ns, uint64_t bytes, uint64_t *ret_due_ns)
{
	if (!ratelimit_ready(limit, now_ns, ret_due_ns))
		return false;
	ratelimit_charge(limit, now_ns, bytes);
	return true;
}

uint64_t ratelimit_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t) ts.tv_sec * SECOND_NS + (uint64_t) ts.tv_nsec;
}
