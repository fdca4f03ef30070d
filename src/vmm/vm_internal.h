#pragma once
/*
 * vmm/vm_internal.h - the parts of a machine, for vm.c, vm_devices.c, vm_hotplug.c and
 * vm_metrics.c.
 */
#include <linux/kvm.h>
#include <stdbool.h>

#include "vmm/bus.h"
#include "vmm/pci.h"
#include "vmm/vm.h"

struct hotplug;
struct irq_kvm;
struct kvm_cpuid2;
struct loop_source;
struct power;
struct rtc;
struct serial;
struct vcpu;
struct vcpu_state;
struct virtio_device;
struct virtio_pci;

enum { VM_IRQCHIPS = 3, VM_WHY_MAX = 160 };

enum vm_device_kind { VM_DEVICE_FIXED, VM_DEVICE_DISK, VM_DEVICE_NIC };

/* What is in a PCI slot. */
struct vm_device {
	struct vm *vm;
	struct virtio_pci *pci; /* NULL: nothing */
	enum vm_device_kind kind;
	char serial[VM_SERIAL_MAX + 1]; /* of a disk */
	uint8_t mac[6];                 /* of a card */
	int fd;                         /* -1: borrowed, and the machine's start has opened it */

	/* While the guest is asked to let go of it; `removed` is NULL otherwise. */
	vm_removed_fn removed;
	void *removed_data;
	unsigned int timeout_ms;
	uint64_t deadline_ns;
	struct loop_source *timer;
};

struct vm {
	struct vm_config config;
	struct loop *loop, *io_loop;
	vm_end_fn on_end;
	void *data;

	int kvm_fd, vm_fd;
	struct guest_memory *memory;
	struct bus *io, *mmio;
	struct irq_kvm *irqs;
	struct doorbells doorbells;
	struct pci *pci;
	struct power *power;
	struct rtc *rtc;
	struct serial *serial;
	struct loop_source *serial_source;
	struct hotplug *hotplug;
	struct vm_device devices[PCI_SLOTS]; /* by slot */
	uint32_t ejected;                    /* atomic: slots that the guest has let go of */
	struct virtio_device *balloon;
	int vsock_fd;

	struct vcpu *vcpus[VM_CPUS_MAX];
	unsigned int vcpu_count;
	struct boot_entry entry;
	/* What a reset goes back to; NULL with no_reboot. */
	struct vcpu_state *first_states;
	struct kvm_irqchip first_irqchips[VM_IRQCHIPS];

	bool started, paused, ended;
	unsigned int resets;
	unsigned int
		ending; /* atomic: 1 + the first reason to end, until the main loop has seen it */
	char why[VM_WHY_MAX];
};

/* vm_devices.c */
int vm_devices_new(struct vm *vm, struct error *err);
/* As after switching on; the CPUs stand still. */
void vm_devices_reset(struct vm *vm);
void vm_devices_free(struct vm *vm);
/* Carries the device, which is taken also when it fails; *ret is where it is. */
int vm_add_virtio(struct vm *vm, struct virtio_device *device, struct vm_device **ret,
		  struct error *err);

/* vm_hotplug.c */
int vm_hotplug_new(struct vm *vm, struct error *err);
/* The machine is switched off and on; what the guest was asked for is gone now. */
void vm_hotplug_reset(struct vm *vm);
/* There will be no answer of the guest. */
void vm_hotplug_end(struct vm *vm);
/* PCI slots whose devices come and go, as bits. */
uint32_t vm_hotplug_slots(const struct vm *vm);
/* The disks and cards of the configuration. */
int vm_hotplug_add_first(struct vm *vm, struct error *err);
/* Takes out whatever is in a slot. */
void vm_device_free(struct vm_device *device);
json_t *vm_device_json(const struct vm_device *device);

/* vm.c */
int vm_check_running(const struct vm *vm, struct error *err);

/* Ends or resets the machine from the main loop; any thread, any number of times. */
void vm_ask_end(struct vm *vm, enum vm_end end, const char *why);
