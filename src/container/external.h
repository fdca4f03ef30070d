#pragma once
/*
 * container/external.h - what of a container's mounts comes from outside of it.
 *
 * CRIU carries file systems that a container has for itself (tmpfs, proc, its root as a place) and
 * must be told by name of everything else: bind mounts, control groups, devices.  Used by
 * checkpoint, which finds them, and restore, which provides them again.  One thread.
 */
#include "base/strbuf.h"
#include "codec/mountinfo.h"
#include "codec/oci_checkpoint.h"
#include "codec/oci_spec.h"
#include "container/rootfs.h"

struct error;

/* What is known of each mount of a list. */
enum external_role {
	EXTERNAL_UNKNOWN,
	EXTERNAL_ITS_OWN, /* CRIU's business */
	EXTERNAL_ROOT,
	EXTERNAL_BIND,
	EXTERNAL_CGROUP,
	EXTERNAL_DEVICE,
};

struct external_mount {
	enum external_role role;
	const struct oci_mount *spec; /* of EXTERNAL_BIND */
	char device[32];              /* of EXTERNAL_DEVICE: "c:1:3" */
};

/*
 * The nearest mount above the n-th whose role is known, and what of the n-th's place lies below it;
 * -1 when there is none.  Pure.
 */
int external_above(const struct mountinfo *info, const struct external_mount *roles, size_t n,
		   const char **ret_below);

/* Finds the external mounts of process `pid`; adds them to `checkpoint` and to the request. */
int external_find(const struct oci_spec *spec, const char *bundle, pid_t pid,
		  struct oci_checkpoint *checkpoint, struct strbuf *request, struct error *err);

/*
 * For a mount namespace of our own: attaches the root and everything external below `folder`, which
 * gets a tmpfs, and makes what is missing of the places in the root.  A detached mount `images`
 * (or -1) comes to `folder`/images.
 */
int external_provide(const struct rootfs_plan *plan, const struct oci_checkpoint *checkpoint,
		     int images, const char *folder, struct error *err);

/* The same to CRIU: the root and where the external ones will lie. */
void external_request(const struct oci_checkpoint *checkpoint, const char *folder,
		      struct strbuf *request);
