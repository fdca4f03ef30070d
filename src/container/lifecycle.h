#pragma once
/*
 * container/lifecycle.h - what happens to a container that exists.
 *
 * Used by the verbs.  A process is only ever named by pidfd, opened with its start time.
 */
#include <stdbool.h>

#include "container/record.h"

struct error;
struct oci_spec;

/* The config.json that the record keeps. */
int lifecycle_spec(const struct record *record, struct oci_spec **ret, struct error *err);

/* Tells init to become the program; returns when it has, or failed to. */
int lifecycle_start(struct record *record, struct error *err);

/* Signals init, or with `all` everything in the control group. */
int lifecycle_kill(struct record *record, int signal_number, bool all, struct error *err);

/* Pids of all its processes, as we see them; the caller frees *ret. */
int lifecycle_pids(const struct record *record, pid_t **ret, size_t *ret_count, struct error *err);

/* Freezes or thaws. */
int lifecycle_freeze(struct record *record, bool freeze, struct error *err);

/* Takes a stopped container away; with `force` stops it first. */
int lifecycle_delete(struct record *record, bool force, struct error *err);

/* Processes, control groups and the record; `spec` (may be NULL) for its poststop hooks. */
int lifecycle_destroy(struct record *record, const struct oci_spec *spec, struct error *err);
