#pragma once
/*
 * kern/seccomp.h - system call filters: building, keeping and loading them.
 *
 * Building one with libseccomp costs more than everything else in a container's start (20 ms for
 * the usual profile), so a built filter is kept in a file named by a hash of the profile's text.
 * Used by container/.  Loading is safe in a forked child.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct error;

/* ---- building ---- */

struct seccomp_builder;

struct seccomp_arg {
	unsigned int index; /* 0..5 */
	const char *op;     /* "SCMP_CMP_EQ" ... */
	uint64_t value;
	uint64_t value_two; /* of SCMP_CMP_MASKED_EQ */
};

/* `action` is "SCMP_ACT_ERRNO" and so on; `data` its number (errno, trace message). */
int seccomp_builder_new(const char *action, uint32_t data, struct seccomp_builder **ret,
			struct error *err);
/* "SCMP_ARCH_X86_64"; our own architecture is always there. */
int seccomp_builder_add_arch(struct seccomp_builder *builder, const char *arch, struct error *err);
/*
 * One rule.  A system call that libseccomp does not know is left out when leaving it out makes the
 * filter stricter, and an error otherwise.
 */
int seccomp_builder_add_rule(struct seccomp_builder *builder, const char *name, const char *action,
			     uint32_t data, const struct seccomp_arg *args, size_t arg_count,
			     struct error *err);
void seccomp_builder_free(struct seccomp_builder *builder);
DEFINE_AUTO(struct seccomp_builder *, seccomp_builder_free)

/* ---- a filter ---- */

struct seccomp_filter {
	uint32_t flags;  /* of seccomp(2) */
	uint32_t notify; /* 1: has rules that ask a listener */
	size_t size;     /* of program: a whole number of struct sock_filter */
	void *program;
};

/* `flags` are names like "SECCOMP_FILTER_FLAG_LOG"; NULL: none. */
int seccomp_builder_build(struct seccomp_builder *builder, const char *const *flags,
			  struct seccomp_filter **ret, struct error *err);
void seccomp_filter_free(struct seccomp_filter *filter);
DEFINE_AUTO(struct seccomp_filter *, seccomp_filter_free)

/* Installs it for the calling thread.  Returns the listener's fd if it has one, else 0. */
int seccomp_filter_load(const struct seccomp_filter *filter);

/* ---- keeping ---- */

enum { SECCOMP_KEY_SIZE = 65 };

/* The name under which a filter made of this text is kept. */
void seccomp_cache_key(const void *text, size_t size, char ret[SECCOMP_KEY_SIZE]);

/*
 * Looks in `dir`.  A file that is not root's own, or that others may write, or that is damaged, is
 * as if it were not there: -ENOENT.
 */
int seccomp_cache_get(const char *dir, const char *key, struct seccomp_filter **ret);
int seccomp_cache_put(const char *dir, const char *key, const struct seccomp_filter *filter);
