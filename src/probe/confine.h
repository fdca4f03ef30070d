#pragma once
/*
 * probe/confine.h - joins an instance's network and gives everything else up.
 *
 * Afterwards the process has a user id of its own that owns nothing anywhere, no capability, no
 * way to get one, and may make sockets of the two internet families, read, write and end.  Used by
 * brume-probe.  One way.
 */
#include <stdint.h>

struct error;

enum { CONFINE_USER = 0x6fffffff }; /* below the ids of layers, above those of instances */

/* `netns_fd` < 0: the network stays what it is. */
int confine_enter(int netns_fd, struct error *err);
