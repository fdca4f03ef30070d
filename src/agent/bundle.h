#pragma once
/*
 * agent/bundle.h - an instance's OCI bundle: config.json and the files that are bound into it.
 *
 * Turns spec + image config into brume's default secure profile: all eight namespaces, the slot's
 * user ids, default seccomp and capabilities, no new privileges, limits.  Everything is written
 * into RUN/instances/UID; brume-oci reads it once.  Used by the instance's actor.
 * Thread-safe; blocks on file I/O; writing it again replaces it.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/user.h"
#include "model/image.h"
#include "model/instance.h"

struct error;

struct bundle_config {
	const char *dir;          /* RUN/instances/UID; must exist */
	const char *uid;          /* of the instance */
	const char *name;         /* the host name when the spec has none */
	const char *cgroups_path; /* "/PREFIX/UID" */
	const struct instance_spec *spec;
	const struct image_config *image;
	int rootfs_fd;         /* to look users up in */
	uint32_t slot_uid;     /* first host id of the 65536 */
	bool limit_swap;       /* the kernel counts swap: memory+swap is limited to memory */
	const char *resolvers; /* NULL, or lines for resolv.conf */
};

/* -EINVAL when image and spec together give no command, -ESRCH for an unknown user. */
int bundle_write(const struct bundle_config *config, struct error *err);

/*
 * The "process" of an exec in a running instance, for `brume-oci exec --process`: the instance's
 * environment, user and directory with `exec` on top.  New reference.
 */
struct bundle_exec {
	char *const *command;
	char *const *env;
	const char *workdir; /* NULL: the instance's */
	const char *user;    /* NULL: the instance's */
	bool tty;
	uint32_t width, height; /* of the terminal; 0: not known */
};
int bundle_exec_process(const struct bundle_config *config, const struct bundle_exec *exec,
			json_t **ret, struct error *err);
