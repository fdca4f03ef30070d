#pragma once
/*
 * base/json_merge.h - JSON merge patches (RFC 7396): what a member is to become, null for none.
 *
 * Used by model/ for what may be changed.  Pure functions; depth is bounded by the parser's
 * (base/json.h).
 */
#include <jansson.h>

/* Applies `patch` to `object`, both objects; values are shared, not copied. */
void json_merge(json_t *object, const json_t *patch);

/* The patch that gives `object` back what `patch` would change now; a new reference. */
json_t *json_merge_undo(const json_t *object, const json_t *patch);
