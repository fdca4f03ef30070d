#pragma once
/*
 * keeper/keeper.h - the parent of everything that runs for a node, as one small event loop.
 *
 * The keeper spawns jobs, holds their output, writes their logs, reaps them and remembers how they
 * ended until the agent has heard it.  It is single-threaded and decides nothing.  Used by
 * cmd/brume-keeper only.
 *
 * Crash behaviour: every job has a record in RUN/keeper/JOB, written before the process may run and
 * before its end is told.  A new keeper adopts what the records say: FIFOs are opened again by
 * name, processes that are not its children are watched by pidfd.  SIGHUP, SIGUSR2 or the agent's
 * request make it execute its binary anew in place, with all descriptors and children kept.
 */

struct error;

struct keeper_options {
	const char *run;    /* the run folder */
	const char *self;   /* path of the binary, for re-execution */
	const char *levels; /* log levels, handed on; may be NULL */
	int state_fd;       /* from the keeper that executed us, or -1 */
};

/* Runs until SIGTERM or SIGINT: 0.  -EWOULDBLOCK when another keeper has the run folder. */
int keeper_run(const struct keeper_options *options, struct error *err);
