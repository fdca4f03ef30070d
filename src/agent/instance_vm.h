#pragma once
/*
 * agent/instance_vm.h - the steps of an instance that differ when it is a virtual machine.
 *
 * Where a container needs a root file system, a machine needs a kernel, disks, a port, what its
 * guest is told, and a jail for its monitor.  Used by agent/instance_task.c; blocking, for worker
 * threads.
 */
#include "agent/instance_task.h"
#include "base/cleanup.h"

struct image_info;

enum { INSTANCE_VM_FDS_MAX = 15 }; /* with the root's one less than the keeper takes */

/* The monitor's descriptors: its 3, 4, 5, ... */
struct instance_vm_fds {
	int fds[INSTANCE_VM_FDS_MAX];
	unsigned int count;
};
void instance_vm_fds_free(struct instance_vm_fds *fds);
DEFINE_AUTO(struct instance_vm_fds *, instance_vm_fds_free)

/* PREPARE: everything that the monitor is spawned with. */
int instance_vm_prepare(struct instance_task *task, const struct image_info *image);

/* LIMIT: all of them or none; what a machine that runs cannot be given comes with its next start.
 */
int instance_vm_limit(struct instance_task *task);

/* What it means that the monitor ended so, in words. */
const char *instance_vm_cause(int64_t exit_code);

/* Why it has ended, when the guest has not said; the caller frees. */
char *instance_vm_epitaph(const struct instance_task *task);
