#pragma once
/*
 * agent/bundle_vm.h - the bundle of a virtual machine: the jail of its monitor, and what its guest
 * is told.
 *
 * The container's only process is the monitor: user ids of the slot, all namespaces, a root that
 * shows the monitor's own files read-only and one folder for its sockets, no capability, no new
 * privileges, the allow-list of system calls.  Used by agent/instance_vm.c; blocking, for any
 * thread.
 */
#include "agent/bundle.h"
#include "net/tap.h"

/* Where the monitor sees RUN/instances/UID/machine. */
#define BUNDLE_VM_RUN_DIR "/run/machine"

/* Serial numbers of the disks, as the guest finds them. */
#define BUNDLE_VM_LOWER "brume-image"
#define BUNDLE_VM_UPPER "brume-disk"
#define BUNDLE_VM_SEED "cidata"

struct bundle_vm {
	const struct bundle *bundle; /* dir, uid, prefix, spec, slot, names */
	const char *run_dir;         /* of the machine, on the node */
	char *const *argv;           /* the monitor */
	char *const *paths;          /* what it has to see */
	uint64_t overhead_bytes;     /* its memory beyond the guest's */
	const char *kvm; /* a node of the machine's own that is its /dev/kvm, or NULL: QEMU opens it
			    by name */
};

/* config.json in the bundle's folder. */
int bundle_vm_write(const struct bundle_vm *vm, struct error *err);
json_t *bundle_vm_config(const struct bundle_vm *vm);

/* An interface, as the guest has to know it. */
struct bundle_nic {
	struct tap_facts tap;
	const char *name;                /* "eth0" */
	const char *gateway4, *gateway6; /* NULL or "": it does not lead out */
};

/* guest.json; no interfaces: no network.  The caller frees. */
int bundle_guest(const struct bundle *bundle, const struct bundle_nic *nics, size_t nic_count,
		 int64_t now_ms, char **ret, struct error *err);

/* The interfaces alone, for a guest that runs; a new reference. */
int bundle_guest_network(const struct bundle_nic *nics, size_t count, json_t **ret,
			 struct error *err);

/* The disk of a guest that has cloud-init, open for reading; interfaces as above. */
int bundle_seed(const struct bundle *bundle, const struct bundle_nic *nics, size_t nic_count,
		int *ret_fd, struct error *err);
