#pragma once
/*
 * agent/bundle.h - the OCI bundle of an instance: brume's secure defaults and what was asked for.
 *
 * Writes RUN/instances/UID/config.json, hosts, resolv.conf and hostname.  The profile: all eight
 * namespaces (users mapped to the slot's own range), 14 capabilities, a system call allow-list,
 * no new privileges, masked and read-only paths, limits.  Used by agent/instance_task.c and
 * exec.c; blocking, for any thread.
 */
#include <jansson.h>
#include <stdint.h>
#include <sys/types.h>

#include "codec/oci_image.h"
#include "model/instance.h"

struct error;
struct grants;

/* Where the small init of ours is seen inside; /dev is a file system of the instance's own. */
#define BUNDLE_INIT_PATH "/dev/init"

struct bundle {
	const char *dir; /* RUN/instances/UID, exists */
	const char *uid;
	const char *name;   /* of the instance: its host name unless the spec has one */
	const char *prefix; /* of the node: parent of the cgroup */
	const struct instance_spec *spec;
	const struct oci_image_config *image;
	int root_fd; /* its root file system: names of users are looked up there */
	uint32_t slot;
	const char *nameserver4, *nameserver6; /* "" = none */
	/* "" = none; what names are looked for in, the first one's first */
	const char *zone, *dns_domain;
	const char *init;            /* path of brume-tini on the node */
	const struct grants *grants; /* of the node's policy, for the spec's mounts and devices */
};

/* The first host id of the user that the instance runs as goes to *ret_owner. */
int bundle_write(const struct bundle *bundle, uint32_t *ret_owner, struct error *err);

/*
 * Of one that runs: hosts and resolv.conf follow its ports, unless they were changed inside.  Needs
 * dir, name, spec, the name servers and the domain.
 */
int bundle_refresh_names(const struct bundle *bundle, struct error *err);

/* The same as a document, without writing anything. */
int bundle_config(const struct bundle *bundle, uint32_t *ret_owner, json_t **ret,
		  struct error *err);

/* Appends entrypoint and command after docker's rules; -EINVAL when nothing is left to run. */
int bundle_args(const struct instance_spec *spec, const struct oci_image_config *image, char ***ret,
		struct error *err);

/* Where something is mounted whatever the image has there; a strv. */
char **bundle_mount_points(const struct instance_spec *spec);

/* What another process in the instance runs as. */
struct bundle_exec {
	char **command;
	char **env;                 /* added to the instance's */
	const char *workdir, *user; /* NULL or "": the instance's */
	bool tty;
	uint32_t width, height;
};

/* The process object for `exec`, made from the bundle's config.json; a new reference. */
int bundle_exec_process(const char *dir, int root_fd, const struct bundle_exec *exec, json_t **ret,
			struct error *err);

/*
 * The same for an instance that runs, `pid` being its first process, as the file `path` that
 * brume-oci exec reads.  -ESRCH when the instance has just ended.
 */
int bundle_write_exec_process(const char *dir, pid_t pid, const struct bundle_exec *exec,
			      const char *path, struct error *err);
