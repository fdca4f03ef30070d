#pragma once
/*
 * machine/qemu_internal.h - what the parts of brume-qemu share: qemu_run.c (the loop),
 * qemu_start.c (QEMU's descriptors and its start), qemu_control.c (the control socket).
 */
#include <poll.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/strbuf.h"
#include "machine/qemu_run.h"
#include "machine/qmp.h"
#include "machine/ring.h"

enum {
	QEMU_CLIENTS_MAX = 8,
	QEMU_CALLS_MAX = 16, /* of all clients together, not yet answered by QEMU */
	QEMU_CALL_BYTES_MAX = 64 * 1024,
	QEMU_OUT_BYTES_MAX = 512 * 1024, /* what a client leaves unread */
	QEMU_WORDS_MAX = 4096,           /* QEMU's own last words */
	QEMU_LOG_BYTES_MAX = 64 * 1024,  /* of the serial line, not yet taken by the log */
};

/* The balloon among QEMU's objects, and how often its guest tells of itself. */
#define QEMU_BALLOON "/machine/peripheral/balloon0"
#define QEMU_STATISTICS_S "2"

/* Our ends of what QEMU got; -1: it has closed them. */
struct qemu_ends {
	int qmp, console, early, status, words;
};

struct qemu_client {
	int fd;          /* -1: free */
	uint64_t serial; /* an answer for a client that has gone reaches nobody else */
	struct strbuf in, out;
};

struct qemu_method;

/* A call of a client: QEMU is asked one thing after the other. */
struct qemu_call {
	uint64_t qmp_id; /* of what it is asked now; 0: free */
	uint64_t client_serial, frame_id;
	const struct qemu_method *method;
	unsigned int step;
	bool has_target; /* of the balloon */
	uint64_t target_bytes;
	json_t *answers; /* by the steps' names */
};

struct qemu {
	const struct qemu_run_options *options;
	struct error *err;
	int dir_fd;
	pid_t pid;
	struct qemu_ends ends;
	struct ring *console;
	int log_fd; /* of a machine that firmware boots: its serial line is its output; or -1 */
	struct strbuf log_out;
	bool log_return; /* a carriage return was held back */
	struct strbuf words, status_line, qmp_in, qmp_out;
	char *version;
	bool paused, guest_open;
	enum qmp_cause cause;
	unsigned int status_count;

	int listen_fd;
	struct qemu_client clients[QEMU_CLIENTS_MAX];
	struct qemu_call calls[QEMU_CALLS_MAX];
	uint64_t next_serial, next_qmp_id;
};

/* Starts QEMU; afterwards `pid` and `ends` are set. */
int qemu_start(struct qemu *qemu, struct error *err);

/*
 * One of our outputs, for writing only: QEMU opens a descriptor from a set exactly as it was
 * opened, and the keeper's pipes are open for reading, too.  Without a reader its output goes
 * nowhere, as it should.
 */
int qemu_output_fd(int fd, struct error *err);

int qemu_control_listen(struct qemu *qemu, struct error *err);
void qemu_control_accept(struct qemu *qemu);
/* A client's descriptor is ready. */
void qemu_control_ready(struct qemu *qemu, struct qemu_client *client, short revents);
/* QEMU has answered a command. */
void qemu_control_answered(struct qemu *qemu, const struct qmp_message *message);
void qemu_control_done(struct qemu *qemu);
