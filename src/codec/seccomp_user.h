#pragma once
/*
 * codec/seccomp_user.h - a seccomp profile that somebody brings along, as linux.seccomp.
 *
 * Takes the specification's form and docker's: rules with `includes` and `excludes` (capabilities,
 * architectures, a kernel), `archMap`, `name`, `comment`.  From strangers: what is not known is
 * refused, and so is asking another process (SCMP_ACT_NOTIFY, listenerPath), which would be one of
 * the host.  The result has passed oci_seccomp_decode(), which is what brume-oci reads it with.
 * Used by control/, which refuses what is wrong, and by the agent, which knows the host.  Pure.
 */
#include <jansson.h>
#include <stdint.h>

struct error;

enum { SECCOMP_USER_MAX_BYTES = 64 * 1024 }; /* of the profile as compact JSON */

/* What the conditions of docker's rules are about. */
struct seccomp_user_host {
	uint64_t capabilities; /* of the instance, bits */
	unsigned int kernel_major, kernel_minor;
};

/* *ret is a new reference. */
int seccomp_user_resolve(const json_t *profile, const struct seccomp_user_host *host, json_t **ret,
			 struct error *err);
