#pragma once
/*
 * net/guard_internal.h - what a network has to know of the guards of its ports.
 *
 * Used by network.c, with the lock of struct net held.
 */
#include "net/guard.h"

/* Whether a port with groups is on the bridge: what it forwards must be judged. */
bool guard_needs_filter(struct net *net, const char *bridge);
