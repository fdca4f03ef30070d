#include "agent/balancer_check.h"

enum { STARTING_INTERVAL_MS = 1000 };

void balancer_health_init(struct balancer_health *health, const struct balancer_check *check,
			  bool in_force)
{
	*health =
		(struct balancer_health){ .state = check->type == BALANCER_CHECK_NONE ? HEALTH_NONE
						   : in_force ? HEALTH_HEALTHY
							      : HEALTH_STARTING };
}

void balancer_health_change(struct balancer_health *health, const struct balancer_check *check)
{
	if (check->type == BALANCER_CHECK_NONE)
		health->state = HEALTH_NONE;
	else if (health->state == HEALTH_NONE)
		health->state = HEALTH_HEALTHY;
	health->streak = 0;
}

bool balancer_health_next(struct balancer_health *health, const struct balancer_check *check,
			  bool passed)
{
	enum health_state before = health->state;
	bool good = before != HEALTH_UNHEALTHY;

	if (before == HEALTH_NONE)
		return false;
	if (before == HEALTH_STARTING && passed) {
		*health = (struct balancer_health){ .state = HEALTH_HEALTHY };
		return true;
	}
	if (passed == good) {
		health->streak = 0;
		return false;
	}
	if (health->streak < UINT32_MAX)
		health->streak++;
	if (health->streak < (passed ? check->rise : check->fall))
		return false;
	*health = (struct balancer_health){ .state = passed ? HEALTH_HEALTHY : HEALTH_UNHEALTHY };
	return true;
}

bool balancer_health_serves(const struct balancer_health *health)
{
	return health->state == HEALTH_NONE || health->state == HEALTH_HEALTHY;
}

uint32_t balancer_health_delay_ms(const struct balancer_health *health,
				  const struct balancer_check *check)
{
	bool soon = health->state == HEALTH_STARTING && check->interval_ms > STARTING_INTERVAL_MS;

	return soon ? STARTING_INTERVAL_MS : check->interval_ms;
}

uint16_t balancer_check_port(const struct balancer_spec *spec)
{
	if (spec->check.port)
		return spec->check.port;
	for (size_t i = 0; i < spec->listen_count; i++)
		if (spec->listens[i].protocol == PROTOCOL_TCP)
			return spec->listens[i].target_port;
	return spec->listen_count > 0 ? spec->listens[0].target_port : 0;
}
