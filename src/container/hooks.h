#pragma once
/*
 * container/hooks.h - runs the programs that config.json names for the turns of a container's life.
 *
 * Each gets the container's state on stdin.  Runs in the runtime or, for createContainer and
 * startContainer, in the container's init before it becomes the user's program.
 */
#include "codec/oci_spec.h"
#include "codec/oci_state.h"

struct error;

/* Runs all of one kind in order; the first failure ends it and says which hook failed and how. */
int hooks_run(const struct oci_spec *spec, enum oci_hook_kind kind, const struct oci_state *state,
	      enum oci_status status, struct error *err);

/* The same, but failures are only logged: for what comes when nothing can be taken back. */
void hooks_run_all(const struct oci_spec *spec, enum oci_hook_kind kind,
		   const struct oci_state *state, enum oci_status status);
