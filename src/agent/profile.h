#pragma once
/*
 * agent/profile.h - what of the kernel's own files an instance does not see, or cannot change.
 *
 * The lists of the field, and what it added since.  Used by agent/bundle_linux.c; looks at /sys.
 */
#include <jansson.h>

/* linux.maskedPaths and linux.readonlyPaths of config.json; new references. */
json_t *profile_masked_paths(void);
json_t *profile_readonly_paths(void);
