#pragma once
/*
 * guest/setup.h - what a container gets from its runtime, made by brume-init in the new root: the
 * kernel's file systems, files about names, limits of the whole machine.
 *
 * setup_root() works on the root before it is changed to; setup_machine() after it.  Both block.
 */
struct error;
struct guest_config;

/* dev, sys, cgroup, tmpfs mounts; /etc/hostname, hosts and resolv.conf as mounts of their own. */
int setup_root(const struct guest_config *config, int root_fd, struct error *err);

/* Host name, sysctls (by a proc that is still there), the clock, the limit of processes. */
int setup_machine(const struct guest_config *config, int proc_fd, struct error *err);

/* The control group of the command and all that is executed beside it; "" when there is none. */
#define SETUP_CGROUP_PROCS "/sys/fs/cgroup/instance/cgroup.procs"
