#pragma once
/*
 * container/sync.h - what the runtime and the process it makes say to each other.
 *
 * A seqpacket pair while the container is made; afterwards the connection of `start` (the same
 * messages).  The end of the connection without a message means: the program has been executed.
 */
#include <sys/types.h>

struct error;

enum sync_type {
	SYNC_GO,    /* runtime: mapped, and this is your pid outside */
	SYNC_HOOKS, /* init: the namespaces are there, the old root still is */
	SYNC_READY, /* init: all is made, only start is missing */
	SYNC_START, /* runtime: run the program */
	SYNC_ERROR, /* either: why it ends */
};

int sync_send(int fd, enum sync_type type, pid_t pid);
int sync_send_error(int fd, const struct error *err);

/* Waits for a message of this type.  A SYNC_ERROR becomes the error; -EPIPE when the other is gone.
 */
int sync_expect(int fd, enum sync_type type, pid_t *ret_pid, struct error *err);

/* Waits for the end of the connection: 0, or the error that was sent. */
int sync_expect_end(int fd, struct error *err);

/* Any message but an error, which becomes the error. */
int sync_next(int fd, enum sync_type *ret_type, pid_t *ret_pid, struct error *err);
