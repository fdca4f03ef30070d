#pragma once
/*
 * agent/guest_poll.h - asks the guests of several virtual machines how they do, all at once.
 *
 * What a machine's monitor takes of the node is in its control group; how much of that the guest
 * itself needs only the guest can say.  Used by agent/stats.c.  Thread: the loop's.
 */
#include <stdint.h>

#include "agent/agent_internal.h"

struct guest_poll;

/* Of one guest; total_bytes 0: it has not answered. */
struct guest_memory {
	uint64_t used_bytes, total_bytes;
};

/* A guest that has not answered by then is left out. */
enum { GUEST_POLL_MS = 2000 };

typedef void (*guest_poll_fn)(void *data);

/*
 * Asks those of the instances that are machines and have booted; what they say goes to
 * ret[i].  `done` is called once, never before this has returned, and the poll is gone then.  NULL
 * when there is nobody to ask: `done` is not called.  `ret` must live as long as the poll.
 */
struct guest_poll *guest_poll_new(struct agent *agent, const char *const *uids, size_t count,
				  struct guest_memory *ret, guest_poll_fn done, void *data);

/* `done` is not called. */
void guest_poll_cancel(struct guest_poll *poll);
