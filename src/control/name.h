#pragma once
/*
 * control/name.h - names for instances that were launched without one, like "calm-otter".
 *
 * Pure; randomness is an argument.
 */
#include "base/clock.h"

enum { NAME_TEXT_SIZE = 64 };

/* `attempt` counts the names that were taken; later ones carry a number, so that it ends. */
void name_make(struct rng *rng, unsigned int attempt, char ret[NAME_TEXT_SIZE]);
