#pragma once
/*
 * agent/balancer_check.h - what the results of a balancer's checks mean, as pure functions.
 *
 * Used by agent/balancer_actor.c.  No state, thread-safe.
 */
#include <stdbool.h>
#include <stdint.h>

#include "model/balancer.h"

struct balancer_health {
	enum health_state state; /* NONE: there is no check */
	uint32_t streak;         /* results in a row that speak against the state */
};

/*
 * A member comes.  It gets no connections before a check has passed; but one that has connections
 * already (`in_force`: an earlier agent gave them) is taken for healthy, so that a restart of the
 * agent is not seen.
 */
void balancer_health_init(struct balancer_health *health, const struct balancer_check *check,
			  bool in_force);

/* The check is another one now. */
void balancer_health_change(struct balancer_health *health, const struct balancer_check *check);

/*
 * One result.  The first pass of a new member counts at once, else it takes `rise` of them, or
 * `fall` failures.  True when its state has changed.
 */
bool balancer_health_next(struct balancer_health *health, const struct balancer_check *check,
			  bool passed);

/* Does it get new connections? */
bool balancer_health_serves(const struct balancer_health *health);

/* From one check to the next: new members are looked at more often. */
uint32_t balancer_health_delay_ms(const struct balancer_health *health,
				  const struct balancer_check *check);

/* The port that is checked. */
uint16_t balancer_check_port(const struct balancer_spec *spec);
