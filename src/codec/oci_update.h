#pragma once
/*
 * codec/oci_update.h - changes of linux.resources while a container runs: reading, merging.
 *
 * A change is a document like linux.resources of config.json, where what is absent or zero stays as
 * it is (that is what callers of `update` send).  Used by container/update.c.  Pure.
 */
#include "base/json.h"
#include "codec/oci_spec.h"

struct error;

/* Reads a change.  *ret is a new reference, without what stays as it is. */
int oci_update_decode(const char *text, size_t size, json_t **ret, struct error *err);

/* The resources as they are after the change; `current` may be NULL.  A new reference. */
json_t *oci_update_merge(const json_t *current, const json_t *change);

/* Only linux_.resources of the result is filled. */
int oci_update_resources(const json_t *resources, struct oci_spec **ret, struct error *err);

/* "linux.resources" of a config.json, a new reference; an empty object when it has none. */
int oci_update_from_config(const char *text, size_t size, json_t **ret, struct error *err);
