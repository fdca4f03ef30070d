#pragma once
/*
 * vmm/vm.h - one virtual machine: memory, CPUs, buses and devices, put together; its life.
 *
 * Used by brume-vmm and vm_control.c.  Thread: everything here belongs to the main thread and its
 * loop; devices run on a loop of their own ("io"), CPUs on their threads, and what they report
 * arrives on the main loop.  The main loop may wait for CPUs, so no device may live on it. A crash
 * of the process is the machine's end: the kernel takes everything back.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "vmm/boot.h"
#include "vmm/memory.h"

struct error;
struct loop;
struct vm;

enum {
	VM_CPUS_MAX = 64,
	VM_DISKS_MAX = 24,
	VM_NICS_MAX = 8,
	VM_DISK_QUEUES_MAX = 16,
	VM_NIC_QUEUES_MAX = 8, /* pairs */
	VM_PORTS_MAX = 7,
	VM_ID_MAX = 20,     /* characters of a disk's or a card's id */
	VM_SERIAL_MAX = 20, /* of a disk's serial number */
};

struct vm_port {
	const char *name;
	int in_fd, out_fd;      /* -1: none */
	uint64_t out_max_bytes; /* 0: no limit */
};

struct vm_disk {
	int fd;
	const char *id;     /* NULL: "disk0", ... */
	const char *serial; /* NULL: as the id */
	bool read_only;
	unsigned int queues;                       /* 0: 1 */
	uint64_t ops_per_second, bytes_per_second; /* 0: unlimited */
};

struct vm_nic {
	int fd; /* of a tap device with IFF_VNET_HDR, or a SOCK_SEQPACKET socket */
	/* One for each further pair of queues: the same tap, made with IFF_MULTI_QUEUE. */
	int more_fds[VM_NIC_QUEUES_MAX - 1];
	unsigned int more_count;
	const char *id; /* NULL: "net0", ... */
	uint8_t mac[6]; /* all zero: one that is free */
	uint16_t mtu;   /* 0: not said */
	uint64_t ops_per_second, bytes_per_second;
};

/* All descriptors and strings are borrowed and must outlive the machine. */
struct vm_config {
	int kvm_fd;
	unsigned int cpus;
	const char *baseline;
	struct guest_memory_options memory;
	bool overcommit; /* more memory than the host has */
	bool has_kernel; /* otherwise the caller sets the CPUs' registers */
	struct boot_options boot;
	bool no_reboot;
	bool serial;
	int serial_in_fd, serial_out_fd;   /* -1: none */
	int console_in_fd, console_out_fd; /* of hvc0 */
	int console_ring_fd;               /* gets its last 64 KiB as they come (vmm/console.h) */
	struct vm_port ports[VM_PORTS_MAX];
	unsigned int port_count;
	struct vm_disk disks[VM_DISKS_MAX];
	unsigned int disk_count;
	struct vm_nic nics[VM_NICS_MAX];
	unsigned int nic_count;
	const char *vsock_path; /* NULL: none */
	uint64_t vsock_cid;
	bool balloon;
	/* Called first in every thread of the machine, for its limits; may be NULL. */
	void (*on_cpu_thread)(void *data);
	void (*on_io_thread)(void *data);
	void *thread_data;
};

enum vm_end {
	VM_POWERED_OFF,
	VM_RESET, /* with no_reboot */
	VM_PANICKED,
	VM_TRIPLE_FAULT,
	VM_QUIT,
	VM_FAILED,
};

/* The machine has ended; its CPUs stand still. */
typedef void (*vm_end_fn)(void *data, enum vm_end end, const char *why);

int vm_new(const struct vm_config *config, struct loop *loop, vm_end_fn on_end, void *data,
	   struct vm **ret, struct error *err);
void vm_free(struct vm *vm);
DEFINE_AUTO(struct vm *, vm_free)

/* Starts the threads; the guest runs from now on unless `paused`. */
int vm_start(struct vm *vm, bool paused, struct error *err);

int vm_pause(struct vm *vm, struct error *err);
int vm_resume(struct vm *vm, struct error *err);
int vm_power_button(struct vm *vm, struct error *err);
/* Like the button on the case; ends the machine with no_reboot. */
int vm_reset(struct vm *vm, struct error *err);
/* Sets the balloon so that the guest has `*target_bytes` (NULL: only asks); *ret says how it is. */
int vm_balloon(struct vm *vm, const uint64_t *target_bytes, json_t **ret, struct error *err);
/*
 * Puts a disk or a card into the running machine.  The descriptor is taken over when it returns 0;
 * *ret says what it has become: {"id", "type", "slot", "queues", and "serial" or "mac"}.
 * A card that is added has one pair of queues.
 */
int vm_add_disk(struct vm *vm, const struct vm_disk *disk, json_t **ret, struct error *err);
int vm_add_nic(struct vm *vm, const struct vm_nic *nic, json_t **ret, struct error *err);
/* Of one card: a group's is refused. */
int vm_parse_mac(const char *text, uint8_t ret[6], struct error *err);
/*
 * Asks the guest to let go of a disk or a card, and takes it out when it has.  0: `fn` is called
 * later, once, in the main loop: `why` is NULL when the device is gone; otherwise it stays.
 */
typedef void (*vm_removed_fn)(void *data, const char *why);
int vm_remove(struct vm *vm, const char *id, unsigned int timeout_ms, vm_removed_fn fn, void *data,
	      struct error *err);
/* Ends it at once. */
void vm_quit(struct vm *vm);

/* New references. */
json_t *vm_info(const struct vm *vm);
json_t *vm_metrics(const struct vm *vm);

const char *vm_end_name(enum vm_end end);
