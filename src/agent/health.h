#pragma once
/*
 * agent/health.h - what the results of an instance's checks mean, as pure functions.
 *
 * Time and randomness come as arguments, so that a day of checks is tested in a millisecond.
 * Used by agent/instance_health.c.  No state, thread-safe.
 */
#include <stdbool.h>
#include <stdint.h>

#include "model/health.h"

struct health {
	enum health_state state; /* STARTING, HEALTHY or UNHEALTHY */
	uint32_t streak;         /* failures in a row that count */
	bool failing;            /* the last check failed */
	bool checked;            /* there was a check at all */
};

struct health_verdict {
	bool changed; /* people hear of it: another state, or the other result than the last time */
	bool act;     /* it has just become unhealthy: the time for on_failure */
};

/* A run begins. */
void health_init(struct health *health);

/* One check has ended; `running_ms` is the age of the run then. */
void health_next(struct health *health, const struct health_check *check, bool passed,
		 int64_t running_ms, struct health_verdict *ret);

/*
 * From one check to the next: in the start period, until it is healthy, there is another one.
 * `running_ms` is the age of the run.
 */
uint32_t health_interval_ms(const struct health *health, const struct health_check *check,
			    int64_t running_ms);

/*
 * Milliseconds from now to the next check.  `since_ms` is how long ago the last one ended (-1:
 * there was none).  `random` spreads what would otherwise happen at once: first checks after a
 * storm of starts, and those that are overdue after a restart of the agent or a pause.
 */
uint32_t health_delay_ms(uint32_t interval_ms, int64_t since_ms, uint32_t random);
