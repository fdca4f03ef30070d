#pragma once
/*
 * guest/guest_internal.h - what the parts of brume-init share.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/json.h"
#include "codec/guest_config.h"

struct channel;
struct command;
struct job;
struct poller;

enum guest_state { GUEST_BOOTING, GUEST_RUNNING, GUEST_ENDING };

struct guest {
	struct poller *poller;
	struct guest_config config;
	int proc_fd; /* of the first pid namespace: the one that /proc is in does not show all */
	int upper_fd;
	enum guest_state state;
	uint64_t boot_ms; /* from the kernel's start to the command's */
	struct command *command;
	struct channel *channels;
	struct job *jobs;
	json_t *network; /* the interfaces that were set up, as the host has told them */
	bool reboot;     /* instead of the end */
};

/* -- command.c: the image's command and its standard streams ------------------------------------
 */

/* *ret_code is 127 or 126 when it fails because of the program, as shells have it; else 1. */
int command_start(struct guest *guest, int *ret_code, struct error *err);
void command_signal(struct guest *guest, int number);
void command_resize(struct guest *guest, uint32_t width, uint32_t height);
pid_t command_pid(const struct guest *guest);
/* Asked to end by its stop signal, killed after that time. */
void command_stop(struct guest *guest, uint64_t grace_ms);
/* True when it was the command.  The loop stops when its output has been handed on. */
bool command_reaped(struct guest *guest, pid_t pid, int wait_status);
/* After that. */
int command_exit_code(const struct guest *guest);

/* -- channel.c: connections of the host ---------------------------------------------------------
 */

/* Listens on vsock, and serves the port brume.guest when there is one. */
int channel_listen(struct guest *guest, struct error *err);

/* The port, non-blocking; tests have one of their own. */
struct channel_port {
	int fd;
	bool (*is_connected)(int fd);
	unsigned int closed_ms; /* so long it must be closed to count as closed */
};
/* Takes over the descriptor. */
int channel_serve_port(struct guest *guest, const struct channel_port *port);

/* Tells everybody about a change. */
void channel_tell_status(struct guest *guest);
/* Hands on what is queued, for a moment at most. */
void channel_flush_all(struct guest *guest);

/* -- job.c: streams that are processes ----------------------------------------------------------
 */

bool job_reaped(struct guest *guest, pid_t pid, int wait_status);
