#pragma once
/*
 * vmm/vm_internal.h - the parts of a machine, for vm.c, vm_devices.c and vm_metrics.c.
 */
#include <linux/kvm.h>
#include <stdbool.h>

#include "vmm/bus.h"
#include "vmm/vm.h"

struct irq_kvm;
struct kvm_cpuid2;
struct loop_source;
struct pci;
struct power;
struct rtc;
struct serial;
struct vcpu;
struct vcpu_state;
struct virtio_device;
struct virtio_pci;

enum { VM_DEVICES_MAX = 31, VM_IRQCHIPS = 3, VM_WHY_MAX = 160 };

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
	struct virtio_pci *devices[VM_DEVICES_MAX];
	unsigned int device_count;
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

/* Ends or resets the machine from the main loop; any thread, any number of times. */
void vm_ask_end(struct vm *vm, enum vm_end end, const char *why);
