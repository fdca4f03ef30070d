#pragma once
/*
 * cli/wait.h - waits for operations, shows their progress, and lets Ctrl-C cancel them; and for an
 * instance's end.
 *
 * Used by every verb that changes something.  While it waits, SIGINT is blocked and read from a
 * signalfd: the first cancels the operation and waits for its end, the second leaves it alone.
 */
#include <jansson.h>

struct cli;
struct error;

/* Until the instance of this name and uid is gone; the name may be another one's by then.  -EINTR:
 * Ctrl-C. */
int wait_until_deleted(struct cli *cli, const char *name, const char *uid, struct error *err);

/*
 * `title` says what is done, for progress and errors ("pulling nginx").  A failed or
 * cancelled operation is an error with its own words.  *ret (may be NULL) is the operation at its
 * end, of a failed one too; NULL when the end is not known.
 */
int wait_operation(struct cli *cli, const char *title, const json_t *operation, json_t **ret,
		   struct error *err);
