#include "agent/health.h"

enum { FIRST_SPREAD_MS = 2000, LATE_SPREAD_MS = 30000, FIRST_MIN_MS = 20 };

void health_init(struct health *health)
{
	*health = (struct health){ .state = HEALTH_STARTING };
}

static bool is_starting(const struct health *health, const struct health_check *check,
			int64_t running_ms)
{
	return health->state == HEALTH_STARTING && running_ms < check->start_period_ms;
}

static void failed(struct health *health, const struct health_check *check, int64_t running_ms,
		   struct health_verdict *verdict)
{
	/* What is still starting may fail; once it was healthy the period is over. */
	if (is_starting(health, check, running_ms))
		return;
	if (health->streak < UINT32_MAX)
		health->streak++;
	if (health->streak < check->retries || health->state == HEALTH_UNHEALTHY)
		return;
	health->state = HEALTH_UNHEALTHY;
	verdict->act = true;
}

void health_next(struct health *health, const struct health_check *check, bool passed,
		 int64_t running_ms, struct health_verdict *ret)
{
	struct health before = *health;
	struct health_verdict verdict = {};

	if (passed) {
		health->state = HEALTH_HEALTHY;
		health->streak = 0;
	} else {
		failed(health, check, running_ms, &verdict);
	}
	health->failing = !passed;
	health->checked = true;
	verdict.changed = health->state != before.state || !before.checked ||
			  health->failing != before.failing;
	*ret = verdict;
}

/* From 1 to `range`. */
static uint32_t within(uint32_t range, uint32_t random)
{
	return (uint32_t) (((uint64_t) range * random) >> 32) + 1;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

uint32_t health_interval_ms(const struct health *health, const struct health_check *check,
			    int64_t running_ms)
{
	bool often = check->start_interval_ms && is_starting(health, check, running_ms);

	return often ? check->start_interval_ms : check->interval_ms;
}

uint32_t health_delay_ms(uint32_t interval_ms, int64_t since_ms, uint32_t random)
{
	if (since_ms < 0)
		return FIRST_MIN_MS + within(smaller(interval_ms, FIRST_SPREAD_MS), random);
	if (since_ms < interval_ms)
		return interval_ms - (uint32_t) since_ms;
	return within(smaller(interval_ms, LATE_SPREAD_MS), random);
}
