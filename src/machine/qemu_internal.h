#pragma once
/*
 * machine/qemu_internal.h - what the parts of brume-qemu share: qemu_run.c (the loop),
 * qemu_start.c (QEMU's descriptors and its start), qemu_control.c (the control socket).
 */
#include <poll.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/strbuf.h"
#include "machine/command_internal.h"
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
	int given_fd; /* came with the bytes that are being read; or -1 */
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

enum qemu_card_state {
	QEMU_CARD_THERE,
	QEMU_CARD_GETS_FD,
	QEMU_CARD_GETS_NETDEV,
	QEMU_CARD_GETS_DEVICE,
	QEMU_CARD_LEAVES,
};

/* What is in one root port. */
struct qemu_card {
	char id[MACHINE_NIC_ID_SIZE]; /* "": nothing */
	enum qemu_card_state state;
	uint64_t qmp_id;                  /* of what QEMU is asked now; or 0 */
	uint64_t client_serial, frame_id; /* who waits; serial 0: nobody */
	char mac[18];
	uint32_t mtu, timeout_ms;
	uint64_t deadline_us;
};

/* A descriptor for QEMU: it goes with the `size` bytes at `at` of what is to be sent. */
struct qemu_passed {
	int fd; /* -1: none */
	size_t at, size;
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
	struct qemu_passed passed;
	struct qemu_card cards[MACHINE_NICS_MAX];
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
/* The answer to a call, when its client is still there.  Steals `body`. */
void qemu_control_return(struct qemu *qemu, uint64_t client_serial, uint64_t frame_id,
			 json_t *body);
void qemu_control_done(struct qemu *qemu);

/* -- qemu_cards.c: network cards -----------------------------------------------------------------
 */

/* Those of the command line. */
void qemu_cards_begin(struct qemu *qemu);
/* The ids of those that are there; a new reference. */
json_t *qemu_cards_json(const struct qemu *qemu);
/* The calls add_nic and remove: they are answered later. */
int qemu_cards_add(struct qemu *qemu, struct qemu_client *client, uint64_t frame_id,
		   const json_t *arguments, struct error *err);
int qemu_cards_remove(struct qemu *qemu, struct qemu_client *client, uint64_t frame_id,
		      const json_t *arguments, struct error *err);
/* QEMU has answered a command: true when it was one of these. */
bool qemu_cards_answered(struct qemu *qemu, const struct qmp_message *message);
/* The guest has let go of a device. */
void qemu_cards_deleted(struct qemu *qemu, const char *id);
/* Until qemu_cards_tick() is due; -1: never. */
int qemu_cards_wait_ms(const struct qemu *qemu);
void qemu_cards_tick(struct qemu *qemu);
