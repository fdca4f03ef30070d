#pragma once
/*
 * agent/seccomp_default.h - the system calls that an instance may use unless it says otherwise.
 *
 * An allow-list like the field's default: what ordinary programs need, nothing that changes the
 * host (mounts, modules, clocks, keys, BPF, other namespaces).  Its text never changes while the
 * agent runs, so brume-oci compiles it once and finds the result by the text's hash.
 * Used by agent/bundle.c.  Pure.
 */
#include <jansson.h>

/* linux.seccomp of config.json; a new reference. */
json_t *seccomp_default(void);
