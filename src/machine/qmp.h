#pragma once
/*
 * machine/qmp.h - the lines of QMP, QEMU's control protocol: JSON objects, one on each.
 *
 * Pure.  Used by brume-qemu (machine/qemu_run.h), which is in the jail with QEMU; what a QEMU says
 * that its guest has taken over is bounded and checked all the same.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;
struct strbuf;

enum { QMP_LINE_MAX = 256 * 1024 };

enum qmp_kind {
	QMP_GREETING, /* text: QEMU's version */
	QMP_RETURN,   /* id, data */
	QMP_ERROR,    /* id, text: what was wrong */
	QMP_EVENT,    /* text: its name; data */
};

struct qmp_message {
	enum qmp_kind kind;
	uint64_t id; /* of the command that is answered; 0: it had none */
	char *text;
	json_t *data; /* never NULL for QMP_RETURN and QMP_EVENT */
};

/* Decodes one line, without its end.  -EPROTO: it is none of the four. */
int qmp_decode(const char *line, size_t size, struct qmp_message *ret, struct error *err);
void qmp_message_done(struct qmp_message *message);
static inline void qmp_message_done_autop(struct qmp_message *message)
{
	qmp_message_done(message);
}

/* Appends a command; `arguments` is JSON or NULL; `id` comes back with the answer. */
void qmp_append_command(struct strbuf *out, const char *name, const char *arguments, uint64_t id);

/* What ended the machine. */
enum qmp_cause {
	QMP_CAUSE_NONE, /* nothing has */
	QMP_CAUSE_POWEROFF,
	QMP_CAUSE_RESET,
	QMP_CAUSE_PANIC,
	QMP_CAUSE_HOST, /* somebody outside asked for it */
	QMP_CAUSE_ERROR,
};

/* From a SHUTDOWN event's data. */
enum qmp_cause qmp_shutdown_cause(const json_t *data);

/* -- what QEMU counts, as brume-vmm puts it; each a new reference ---------------------------------
 */

/* From the answer to query-blockstats: [{"id", "reads", "writes", ...}]. */
json_t *qmp_disk_metrics(const json_t *data);

/* From the balloon's guest-stats: what the guest says of itself, {} when it has said nothing. */
json_t *qmp_guest_statistics(const json_t *data);

/* From the answer to query-stats: KVM's counters by its names, those of several CPUs added up. */
json_t *qmp_kvm_counters(const json_t *data);

/* A number of a member; 0 when it is none, or negative. */
uint64_t qmp_number(const json_t *object, const char *name);
