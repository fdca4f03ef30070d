#pragma once
/*
 * cli/attachment.h - our terminal tied to an instance: its output here, our input there.
 *
 * Used by attach and launch.  The connection is made anew when the server or the node's agent is
 * restarted, and goes on with the byte behind the last one shown.
 */
#include <stdbool.h>

#include "cli/detach_keys.h"
#include "cli/signals.h"
#include "cli/stream.h"

struct cli;
struct error;

enum attachment_end { ATTACHMENT_OPEN, ATTACHMENT_ENDED, ATTACHMENT_DETACHED };

struct attachment {
	/* Set by the user. */
	struct cli *cli;
	const char *name;
	const char *uid; /* of the instance meant: the name may be another one's by the end */
	bool tty;        /* the instance has a terminal */
	bool input;      /* pass our input on */
	bool sig_proxy;  /* signals that we get go to the instance; otherwise INT and TERM leave */
	int tail;        /* lines shown first; -1: all of the log */
	struct detach_keys keys;

	/* Private. */
	struct websocket *websocket;
	struct signals signals;
	struct stream_pieces pieces;
	struct strbuf held; /* messages {u32 size, u8 text, bytes}, while `holding` */
	struct stream_retry retry;
	enum attachment_end end;
	bool holding, input_open, raw, broken_out, broken_err;
	bool unshown; /* some output could not be written here */
	int exit_code;
	unsigned int interrupts;
};

/* Connects; with `wait` also to an instance that does not run yet.  Returns when it is there. */
int attachment_open(struct attachment *attachment, bool wait, struct error *err);

/*
 * From now until attachment_run() requests may be waited for: the server's pings are answered (it
 * ends streams that are silent), and what comes is kept for later.
 */
void attachment_hold(struct attachment *attachment);

/* Until it has ended: its exit code, or 0 when the user has left. */
int attachment_run(struct attachment *attachment, struct error *err);

void attachment_done(struct attachment *attachment);
static inline void attachment_done_autop(struct attachment *attachment)
{
	attachment_done(attachment);
}
