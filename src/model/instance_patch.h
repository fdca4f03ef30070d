#pragma once
/*
 * model/instance_patch.h - what of an instance may be changed after its launch.
 *
 * A change is a JSON merge patch (RFC 7396) of the members `limits`, `restart`, `labels`, `env`,
 * `stop_signal` and `stop_timeout_s`, of `groups` (of all its ports), and of `ports` {NETWORK:
 * {`limits`, `groups`}}: null takes a value away.  What the uids of groups are is control's to say.
 * Used by control/.  No state, thread-safe.
 */
#include <jansson.h>

struct error;
struct instance;

/*
 * Applies `patch`.  After -EINVAL the instance is half changed, to be thrown away.  What only holds
 * between members is checked when the resource is decoded again.
 */
int instance_patch(struct instance *instance, const json_t *patch, struct error *err);

/* The patch that gives an instance back what `patch` would change now; a new reference. */
json_t *instance_patch_undo(const struct instance *instance, const json_t *patch);
