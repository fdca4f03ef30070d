#pragma once
/*
 * codec/oci_state.h - what a runtime remembers of a container, and how it tells others.
 *
 * Used by container/ (state.json, `state`, `list`, what hooks get on stdin).  Pure.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/json.h"

struct error;

enum { OCI_STATE_MAX = 1 << 20 };

enum oci_status {
	OCI_STATUS_CREATING,
	OCI_STATUS_CREATED,
	OCI_STATUS_RUNNING,
	OCI_STATUS_PAUSED,
	OCI_STATUS_STOPPED,
};

struct oci_state {
	char *version; /* of the specification, from config.json */
	char *id;
	char *bundle;
	char *cgroup;        /* path in every hierarchy; NULL: none */
	char *unit;          /* of systemd, which made the control group; NULL: none */
	pid_t pid;           /* of the init process; 0 while it is created */
	uint64_t start_time; /* with the pid: its identity */
	bool own_pid_ns;     /* all its processes end with init */
	int64_t created_ms;
	json_t *annotations; /* object or NULL */
	char **stdio;        /* what the three were at creation, as in /proc/PID/fd; may be NULL */
};

void oci_state_free(struct oci_state *state);
DEFINE_AUTO(struct oci_state *, oci_state_free)

/* state.json, for ourselves. */
char *oci_state_encode(const struct oci_state *state);
int oci_state_decode(const char *text, size_t size, struct oci_state **ret, struct error *err);

/* The document of the specification, for `state` and hooks; a new reference. */
json_t *oci_state_public(const struct oci_state *state, enum oci_status status);

const char *oci_status_name(enum oci_status status);
