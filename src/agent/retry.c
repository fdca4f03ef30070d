#include "agent/retry.h"

#include <stdlib.h>
#include <time.h>

enum { ACCURACY_US = 1000 };

bool retry_waiting(const struct retry *retry)
{
	return retry->source != NULL;
}

static void drop(struct retry *retry)
{
	retry->source = sd_event_source_disable_unref(retry->source);
}

static int on_time(sd_event_source *source, uint64_t usec, void *data)
{
	struct retry *retry = data;

	(void) source;
	(void) usec;
	drop(retry);
	retry->fire(retry->data);
	return 0;
}

void retry_in(struct retry *retry, sd_event *event, uint64_t delay_ms)
{
	drop(retry);
	if (sd_event_add_time_relative(event, &retry->source, CLOCK_MONOTONIC, delay_ms * 1000,
				       ACCURACY_US, on_time, retry) < 0)
		abort(); /* no memory: like every other small allocation */
}

void retry_later(struct retry *retry, sd_event *event, uint32_t first_ms, uint32_t max_ms)
{
	if (retry->source)
		return;
	if (retry->delay_ms == 0)
		retry->delay_ms = first_ms;
	retry_in(retry, event, retry->delay_ms);
	retry->delay_ms = retry->delay_ms > max_ms / 2 ? max_ms : retry->delay_ms * 2;
}

void retry_reset(struct retry *retry)
{
	retry->delay_ms = 0;
}

void retry_stop(struct retry *retry)
{
	drop(retry);
	retry->delay_ms = 0;
}
