#pragma once
/*
 * codec/oci_healthcheck.h - the check that an image brings along (Docker's config.Healthcheck).
 *
 * From strangers: bounded; times are given in nanoseconds and kept in milliseconds, what is out of
 * range counts as not given.  Used by codec/oci_image and agent/.  Pure, thread-safe.
 */
#include <jansson.h>
#include <stdint.h>

struct error;

enum oci_healthcheck_kind {
	OCI_HEALTHCHECK_ABSENT,
	OCI_HEALTHCHECK_NONE, /* the image says that there is none */
	OCI_HEALTHCHECK_COMMAND,
};

struct oci_healthcheck {
	enum oci_healthcheck_kind kind;
	char **command; /* what is executed; CMD-SHELL is ["/bin/sh", "-c", text] */
	/* 0: not given */
	uint32_t interval_ms, timeout_ms, start_period_ms, start_interval_ms, retries;
};

/* Docker's object.  A test of a kind that nobody knows is an error. */
int oci_healthcheck_decode(const json_t *object, struct oci_healthcheck *ret, struct error *err);

/* As it stands in our own records, and back; NULL when absent. */
json_t *oci_healthcheck_json(const struct oci_healthcheck *check);
int oci_healthcheck_read(const json_t *object, struct oci_healthcheck *ret, struct error *err);

void oci_healthcheck_done(struct oci_healthcheck *check);
