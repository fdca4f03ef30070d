#pragma once
/*
 * container/rootless.h - operation by an ordinary user.
 *
 * Who is not root can do nothing of a container's making in the host's user namespace.  So the
 * runtime first becomes root of the container's own: it makes that (create, run) or joins it
 * (exec), with a mount namespace that belongs to it, and executes itself again there.  What runs
 * then is the same program as for root; only that the user namespace exists already.  The second
 * execution also makes /proc/PID of its children belong to that root.
 *
 * Several ids are mapped by newuidmap and newgidmap (package uidmap), which ask /etc/subuid; the
 * user's own id alone needs nobody.  Used by the verbs before anything else.  A crash leaves
 * nothing: namespaces end with their processes.
 */
#include <stdbool.h>

#include "container/record.h"

struct error;
struct oci_spec;

/* Whether this is the second execution. */
bool rootless_entered(void);
/* When no other comes any more: what we start must not take it for its own. */
void rootless_forget(void);

/* Whether we are root of some other user namespace than the machine's, or not root at all. */
bool rootless_is(void);

/* Both do not return when all is well. */
int rootless_make(const struct oci_spec *spec, struct error *err);
int rootless_join(const struct record *record, struct error *err);
