#pragma once
/*
 * agent/bundle_internal.h - how the files of a bundle work together.  Private to them.
 *
 *	bundle.c		the whole document, and the files of names beside it
 *	bundle_process.c	what is run, as whom, with which powers
 *	bundle_mounts.c		what is mounted
 *	bundle_linux.c		namespaces, control groups, what is hidden
 */
#include "agent/bundle.h"

/* Strings of people and images; -EINVAL names what is not UTF-8 and so cannot be said in JSON. */
int bundle_texts(char *const *list, const char *what, json_t **ret, struct error *err);

int bundle_add_process(const struct bundle *bundle, const char *hostname, uint32_t *ret_owner,
		       json_t *config, struct error *err);
/* What its root may do in its own user namespace, as bits. */
uint64_t bundle_capabilities(const struct run_options *run);
json_t *bundle_mounts(const struct bundle *bundle);
int bundle_linux(const struct bundle *bundle, json_t **ret, struct error *err);
