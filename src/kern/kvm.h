#pragma once
/*
 * kern/kvm.h - the kernel's virtual machines: thin wrappers around the ioctls of /dev/kvm.
 *
 * Used by vmm/ (and by who wants to know what this host can do).  A function returns 0, a count or
 * a descriptor, or -errno.  No state, thread-safe; ioctls of a vCPU belong to its thread.
 * Reference: Documentation/virt/kvm/api.rst.
 */
#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Opens /dev/kvm (`fd` < 0), or takes a descriptor of it; checks that it is KVM. */
int kvm_open(int fd);
/* What KVM_CHECK_EXTENSION says: 0 for no. */
int kvm_check(int fd, int capability);

int kvm_vm_new(int kvm_fd);
int kvm_vcpu_new(int vm_fd, unsigned int id);
/* Bytes of struct kvm_run to be mapped from a vCPU. */
int kvm_run_size(int kvm_fd);

/* An ioctl() that is made again after a signal. */
int kvm_ioctl(int fd, unsigned long request, const void *argument);
int kvm_ioctl_value(int fd, unsigned long request, unsigned long value);

int kvm_memory_set(int vm_fd, unsigned int slot, uint64_t guest_address, uint64_t size_bytes,
		   void *host, uint32_t flags);

/* In-kernel interrupt controllers (PIC, IOAPIC and a LAPIC for each vCPU). */
int kvm_irqchip_new(int vm_fd, uint64_t tss_address, uint64_t identity_address);
/* Replaces all routes of global system interrupts. */
int kvm_routes_set(int vm_fd, const struct kvm_irq_routing *routes);
int kvm_irqfd(int vm_fd, int fd, unsigned int gsi, bool assign);
int kvm_irq_line(int vm_fd, unsigned int gsi, bool up);

/* A write to `address` makes `fd` readable; `size` 0: of any size; `match` < 0: of any value. */
int kvm_ioeventfd(int vm_fd, uint64_t address, unsigned int size, int fd, int match, bool port_io,
		  bool assign);

enum { KVM_CPUID_MAX = 256, KVM_MSRS_MAX = 512 };

/* What KVM can show to a guest here; the caller frees. */
int kvm_cpuid_supported(int kvm_fd, struct kvm_cpuid2 **ret);
int kvm_cpuid_set(int vcpu_fd, const struct kvm_cpuid2 *cpuid);

/* The indices of all registers that a guest's state has; the caller frees. */
int kvm_msr_indices(int kvm_fd, struct kvm_msr_list **ret);
/* One register, entry->index; -EINVAL when the kernel cannot read or write it. */
int kvm_msr_get(int vcpu_fd, struct kvm_msr_entry *entry);
int kvm_msr_set(int vcpu_fd, const struct kvm_msr_entry *entry);

/*
 * KVM's own counters of a VM or vCPU (KVM_GET_STATS_FD): calls `fn` for each.  `fd` is of the VM or
 * of the vCPU.  Histograms are left out.  -ENOTTY or -EINVAL on kernels before 5.14.
 */
typedef void (*kvm_stat_fn)(void *data, const char *name, uint64_t value);
int kvm_stats_open(int fd);
int kvm_stats_read(int stats_fd, kvm_stat_fn fn, void *data);
