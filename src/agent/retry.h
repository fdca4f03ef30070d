#pragma once
/*
 * agent/retry.h - a timer that waits longer each time, for things that will work again some day.
 *
 * Used by the link, the keeper's watch and the actors.  Thread: the loop's.  May be stopped and
 * freed inside its own callback.
 */
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

struct retry {
	sd_event_source *source;
	uint32_t delay_ms; /* the next delay; 0: the first */
	void (*fire)(void *data);
	void *data;
};

/* Calls `fire` after the present delay, and doubles it up to `max_ms`.  Nothing when it runs. */
void retry_later(struct retry *retry, sd_event *event, uint32_t first_ms, uint32_t max_ms);

/* Calls `fire` once after exactly `delay_ms`; replaces what was planned. */
void retry_in(struct retry *retry, sd_event *event, uint64_t delay_ms);

bool retry_waiting(const struct retry *retry);

/* It worked: the next failure starts with the shortest delay. */
void retry_reset(struct retry *retry);

/* Like reset, and nothing fires any more. */
void retry_stop(struct retry *retry);
