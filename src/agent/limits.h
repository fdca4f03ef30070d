#pragma once
/*
 * agent/limits.h - the limits of a running instance: changed by brume-oci, remembered in the run
 * folder so that the next agent knows what is in force.
 *
 * Blocking, for worker threads, except limits_read().  A crash between the change and the note
 * repeats the change.  Used by agent/instance_*.c.
 */
#include "model/instance.h"

struct agent;
struct error;

/* What is in force since the start or the last change. */
int limits_write(const struct agent *agent, const char *uid, const struct instance_limits *limits,
		 struct error *err);

/* -ENOENT when it is not known. */
int limits_read(const struct agent *agent, const char *uid, struct instance_limits *ret);

/*
 * Changes all of them or none.  A memory limit below what is in use is refused: the kernel would
 * end processes instead.
 */
int limits_apply(const struct agent *agent, const char *uid, const struct instance_limits *limits,
		 struct error *err);
