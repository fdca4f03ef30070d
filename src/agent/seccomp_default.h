#pragma once
/*
 * agent/seccomp_default.h - the system calls that an instance may use unless it says otherwise.
 *
 * An allow-list like the field's default: what ordinary programs need, nothing that changes the
 * host (mounts, modules, clocks, keys, BPF, other namespaces), unless a capability was asked for
 * that is meant for it.  The text is the same for the same capabilities, so brume-oci compiles it
 * once and finds the result by the text's hash.  Used by agent/bundle_linux.c.  Pure.
 */
#include <jansson.h>
#include <stdint.h>

/* linux.seccomp of config.json for an instance with these (bits); a new reference. */
json_t *seccomp_default(uint64_t capabilities);
