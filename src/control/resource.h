#pragma once
/*
 * control/resource.h - all kinds of resources behind one set of functions.
 *
 * So that the mirror and the drafts need not know what they carry.  No state, thread-safe.
 */
#include <jansson.h>

#include "model/meta.h"

struct error;

/* Decodes what the store has under a key; meta.revision is set to `revision`. */
int resource_decode(enum kind kind, const char *text, uint64_t revision, void **ret,
		    struct error *err);
json_t *resource_encode(enum kind kind, const void *resource, unsigned int parts);

/* What is written to the store: everything but the revision, which the store knows itself. */
char *resource_text(enum kind kind, void *resource);
void *resource_copy(enum kind kind, void *resource);
struct meta *resource_meta(enum kind kind, void *resource);

/* Takes over what a node says about an instance, an image, a network, a balancer, a router or a
 * group. */
int resource_set_status(enum kind kind, void *resource, const json_t *status, struct error *err);

/* It was to be deleted, and its node says that nothing of it is left. */
bool resource_is_gone(enum kind kind, const void *resource);
void resource_free(enum kind kind, void *resource);
