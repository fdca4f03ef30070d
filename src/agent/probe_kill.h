#pragma once
/*
 * agent/probe_kill.h - ends a command of a health check with everything that it has started.
 *
 * The command leads a session of its own; what belongs to it, or descends from somebody who does,
 * is looked for among the instance's processes and killed, until nothing is found.  A process that
 * left the session and lost its parent before is the instance's own, as it would be without us.
 * Used by agent/probe.c; the work is done on a worker.
 */
#include <stddef.h>
#include <sys/types.h>

struct agent;

/* `leader` as the agent sees it.  Returns at once. */
void probe_kill(struct agent *agent, const char *uid, pid_t leader);

/* A process, for probe_kill_choose(). */
struct probe_kill_process {
	pid_t pid, parent, session;
};

/*
 * Moves those that are to be killed to the front and counts them: members of the session, and
 * children of what is to be killed.  Pure.
 */
size_t probe_kill_choose(struct probe_kill_process *list, size_t count, pid_t leader);
