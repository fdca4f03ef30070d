#pragma once
/*
 * agent/profile.h - the default confinement of an instance: which system calls, capabilities and
 * paths its processes get.
 *
 * The strength is that of the field's default profiles: what a server program needs is allowed,
 * what reaches the kernel's global state or its dark corners is not.  Written into the instance's
 * OCI configuration by agent/bundle.c.  No state, thread-safe.
 */
#include <jansson.h>

/* linux.seccomp of an OCI configuration; new reference. */
json_t *profile_seccomp(void);

/* process.capabilities; new reference. */
json_t *profile_capabilities(void);

/* linux.maskedPaths and linux.readonlyPaths; new references. */
json_t *profile_masked_paths(void);
json_t *profile_readonly_paths(void);
