#pragma once
/*
 * container/seccomp_profile.h - from config.json's profile to a filter, through the kept ones.
 *
 * Filters are kept in ROOT/.seccomp, by the hash of the profile's text.  Used by container/process.
 */
#include "codec/oci_spec.h"
#include "kern/seccomp.h"

struct error;

struct seccomp_profile {
	struct seccomp_filter *filter; /* NULL: the container has no profile */
	char *listener_path;           /* NULL: nobody is asked */
	char *listener_metadata;
};

int seccomp_profile_get(const char *root, const struct oci_spec *spec, struct seccomp_profile *ret,
			struct error *err);
void seccomp_profile_done(struct seccomp_profile *profile);
