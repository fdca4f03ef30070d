#pragma once
/*
 * codec/oci_seccomp.h - the seccomp profile of a config.json as a struct.
 *
 * Decoded only when its compiled filter is not kept yet, or has a listener.  Names of system
 * calls, actions and architectures are checked by kern/seccomp.  Pure.
 */
#include "codec/oci_spec.h"

struct oci_seccomp_arg {
	uint32_t index;
	uint64_t value;
	uint64_t value_two;
	const char *op;
};

struct oci_seccomp_rule {
	oci_strings names;
	const char *action;
	struct oci_opt errno_ret;
	struct oci_seccomp_arg *args;
	size_t arg_count;
};

struct oci_seccomp {
	const char *default_action;
	struct oci_opt default_errno_ret;
	oci_strings architectures;
	oci_strings flags;
	const char *listener_path;     /* NULL: none */
	const char *listener_metadata; /* NULL: none */
	struct oci_seccomp_rule *rules;
	size_t rule_count;

	struct oci_spec *arena; /* owner of everything */
};

int oci_seccomp_decode(const char *text, size_t size, struct oci_seccomp **ret, struct error *err);
void oci_seccomp_free(struct oci_seccomp *seccomp);
DEFINE_AUTO(struct oci_seccomp *, oci_seccomp_free)
