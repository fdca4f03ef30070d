#pragma once
/*
 * container/rootfs.h - the container's file system: root, mounts, devices, masks.
 *
 * The runtime opens everything that comes from the host as detached mounts (a plan), because the
 * container's init may not be allowed to walk there; init attaches them below the new root, every
 * place looked up inside of that root, and then makes it the only root.
 */
#include <stdbool.h>
#include <sys/types.h>

#include "codec/oci_spec.h"
#include "container/mount_options.h"
#include "kern/cgroup.h"

struct error;

struct rootfs_cgroup {
	char *name; /* of the folder: "cpu,cpuacct", "systemd"; "" for version 2 */
	int fd;     /* detached clone of the container's folder */
};

struct rootfs_mount {
	const struct oci_mount *spec;
	struct mount_options options;
	bool cgroup;            /* of type cgroup: made from the list below */
	int fd;                 /* detached source of a bind mount, or -1 */
	char *link;             /* instead of it: the target of a link to make */
	char *label;            /* of SELinux, as an option of the file system */
	const char *root_label; /* instead of it, for its root folder alone; borrowed */
};

struct rootfs_plan {
	const struct oci_spec *spec;
	int root_fd;   /* detached root; -1: the mount namespace is joined as it is */
	bool no_pivot; /* chroot instead */
	bool user_ns;
	bool cgroup_ns;
	struct rootfs_mount *mounts;
	struct rootfs_cgroup cgroups[CGROUP_HIERARCHIES_MAX];
	size_t cgroup_count;
	uint64_t propagation; /* of what comes from the host */
	bool has_dev;         /* /dev of the host is shown: nothing is made there */
	dev_t proc_dev;       /* of the procfs at /proc; 0: there is none */
	int proc_fd, sys_fd;  /* what rootfs_build() attached to /proc and /sys, or -1 */
};

/*
 * Opens what the spec names; relative paths start at the current folder (the bundle).  `root_fd`
 * >= 0 is a detached mount to use instead of root.path; it becomes the plan's on success.
 */
int rootfs_plan_make(const struct oci_spec *spec, const struct cgroup *cgroup, int root_fd,
		     struct rootfs_plan *ret, struct error *err);
void rootfs_plan_done(struct rootfs_plan *plan);

/* For init: attaches the root over "/" of its mount namespace, and all mounts; *ret_root is its fd.
 */
int rootfs_build(struct rootfs_plan *plan, int *ret_root, struct error *err);

/* Default devices, those of the spec, and the usual links. */
int rootfs_make_devices(const struct rootfs_plan *plan, int root, struct error *err);

/* Makes the root the only one, hides and protects what the spec says. */
int rootfs_enter(const struct rootfs_plan *plan, int root, struct error *err);

/* What the options of a mount say of its attributes; before or after it is attached. */
int rootfs_set_attributes(int mount_fd, const struct mount_options *options);

/* Shows a detached mount with other owners. */
int rootfs_idmap(int mount_fd, const struct oci_id_maps *uid_maps,
		 const struct oci_id_maps *gid_maps, bool recursive, struct error *err);

/* A detached clone of the host's node of a device that the spec or every container has. */
int rootfs_clone_device(const struct oci_spec *spec, char type, dev_t dev, struct error *err);

/* Puts a terminal on /dev/console of the root we are in. */
int rootfs_bind_console(int tty_fd, struct error *err);
