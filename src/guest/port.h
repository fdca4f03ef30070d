#pragma once
/*
 * guest/port.h - virtio-serial ports by name, and bytes moved between them and pipes.
 *
 * A port whose host end is closed reads as ended and takes nothing; it may be opened there later.
 * One thread, on the loop.
 */
#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

struct error;
struct poller;
struct pump;

/* Opens the port, non-blocking; -ENOENT when the machine has none of that name. */
int port_open(const char *name, struct error *err);

/* Is somebody at the other end now? */
bool port_connected(int fd);

typedef void (*pump_fn)(void *data);

struct pump_options {
	int from, to;   /* non-blocking; taken over */
	bool from_port; /* an end before the host has come is none */
	/* All has come and has been handed on, or `to` takes nothing any more. */
	pump_fn ended;
	void *data;
	const char *at_end; /* written to `to` when `from` has ended: a terminal's ^D; or NULL */
};

int pump_new(struct poller *poller, const struct pump_options *options, struct pump **ret,
	     struct error *err);

/* Hands on what is there.  True when nothing is left inside of it and `from` is empty. */
bool pump_flush(struct pump *pump);

void pump_free(struct pump *pump);
DEFINE_AUTO(struct pump *, pump_free)
