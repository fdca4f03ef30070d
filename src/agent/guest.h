#pragma once
/*
 * agent/guest.h - what the agent knows about the inside of one running virtual machine.
 *
 * Connects to the guest's brume-init, again whenever the connection is lost, and keeps calls that
 * come too early until the guest has said hello.  One per run; owned by the instance's actor.
 * Thread: the loop's; connecting happens on a worker.
 */
#include "agent/guest_link.h"
#include "machine/machine.h"

struct guest;
struct pool;

struct guest_ops {
	/* It said hello, or its state has changed, or the connection was lost. */
	void (*told)(void *data);
};

/*
 * `run_dir` is the machine's run folder as the node sees it; copied.  `up`: its command has run
 * before, so an earlier agent may have been connected.
 */
struct guest *guest_new(sd_event *event, struct pool *pool, enum machine_backend backend,
			const char *run_dir, bool up, const struct guest_ops *ops, void *data);

/* It has told that its command runs (or is ending by now). */
bool guest_is_up(const struct guest *guest);

/*
 * How it breaks the protocol, again and again: once may be what an earlier connection left on a
 * serial port.  The first such words stay, so that a guest cannot keep others busy by telling
 * something else each time.  NULL: it does not.
 */
const char *guest_breach(const struct guest *guest);

/*
 * A call that waits until the guest can take it; one that has booted has GUEST_PATIENCE_MS for
 * that, then `closed` says so. Never calls back before it has returned.
 */
enum { GUEST_PATIENCE_MS = 60 * 1000 };
struct guest_request;
struct guest_request *guest_request_new(struct guest *guest, const json_t *arguments,
					const struct guest_call_ops *ops, void *data);

/* As with calls; before the guest has taken it there is no credit. */
size_t guest_request_credit(const struct guest_request *request);
int guest_request_send(struct guest_request *request, enum frame_channel channel, const void *bytes,
		       size_t size);
void guest_request_grant(struct guest_request *request, size_t bytes);
void guest_request_free(struct guest_request *request);

/* One that nobody waits for: a signal, a size of the terminal. */
void guest_tell(struct guest *guest, const json_t *arguments);

/* Open requests hear that the machine has ended. */
void guest_free(struct guest *guest);
