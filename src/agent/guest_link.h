#pragma once
/*
 * agent/guest_link.h - one connection to a guest's brume-init: frames, and calls on it.
 *
 * The protocol of docs/design/0007-virtual-machines.md over a connected stream socket; guest.h
 * makes the connections.  The other end may be anybody's kernel, so everything is bounded and
 * checked: what breaks the format ends the connection, and never more than that.  Thread: the
 * loop's.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "codec/frame.h"

struct error;
struct guest_call;
struct guest_link;

enum guest_state { GUEST_BOOTING, GUEST_RUNNING, GUEST_ENDING };

enum { GUEST_CALLS_MAX = 64, GUEST_TEXT_MAX = 256 };

struct guest_link_ops {
	/* It said hello (the first time), or its state has changed. */
	void (*told)(void *data);
	/* The last word: the connection is gone and so are all its calls.  The owner frees it. */
	void (*lost)(void *data, const struct error *why);
};

/*
 * Takes over `fd` when it returns 0.  `connection` is 0 where each connection is the guest's own,
 * too (vsock): it says hello first.  On a serial port it is a new random number of at most 53 bits:
 * what comes before the guest has answered to that may be the rest of an earlier connection.
 */
int guest_link_new(sd_event *event, int fd, uint64_t connection, const struct guest_link_ops *ops,
		   void *data, struct guest_link **ret, struct error *err);

/* It has had its time and has not said hello: the link is lost. */
void guest_link_give_up(struct guest_link *link);

/* Has it said hello? */
bool guest_link_ready(const struct guest_link *link);
enum guest_state guest_link_state(const struct guest_link *link);
/* While it is lost: the guest has broken the protocol.  Otherwise the connection has just ended. */
bool guest_link_broken(const struct guest_link *link);
/* Why the command could not be run, or NULL; printable. */
const char *guest_link_error(const struct guest_link *link);

/* The calls that are open hear that the machine has ended. */
void guest_link_free(struct guest_link *link);
DEFINE_AUTO(struct guest_link *, guest_link_free)

/* -- calls: a stream each ------------------------------------------------------------------------
 */

struct guest_call_ops {
	/* Bytes on channel 1 or 2; guest_call_grant() when they are passed on. */
	void (*received)(void *data, enum frame_channel channel, const char *bytes, size_t size);
	/* There is credit again.  May be NULL. */
	void (*writable)(void *data);
	/*
	 * The last word: the guest has closed it, or is gone.  `err` NULL: it went well.
	 * `exit_code` is -1 when there is none, else 0 to 255.
	 */
	void (*closed)(void *data, int64_t exit_code, const struct error *err);
};

/* Only on one that is ready.  -EBUSY when too many are open. */
int guest_call_new(struct guest_link *link, const json_t *arguments,
		   const struct guest_call_ops *ops, void *data, struct guest_call **ret,
		   struct error *err);

/* How much may be sent now on channel 0. */
size_t guest_call_credit(const struct guest_call *call);
/* At most that much; -ENOBUFS when the guest takes nothing (control messages cost no credit). */
int guest_call_send(struct guest_call *call, enum frame_channel channel, const void *bytes,
		    size_t size);
void guest_call_grant(struct guest_call *call, size_t bytes);

/* Nobody listens any more: `closed` does not come. */
void guest_call_free(struct guest_call *call);
