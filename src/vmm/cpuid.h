#pragma once
/*
 * vmm/cpuid.h - what a guest's CPUs say they are.
 *
 * From what KVM can show on this host: the topology of this machine instead of the host's (one
 * socket, one core for each vCPU), KVM's own leaves, no nested virtualization, no performance
 * counters, and the features of a named baseline when the guest shall be able to move.
 * Used by vm.c.  Pure.
 */
#include <linux/kvm.h>
#include <stdbool.h>

struct error;

struct cpuid_options {
	unsigned int cpus;    /* 1..64 */
	const char *baseline; /* "host", "x86-64-v2", "x86-64-v3" */
	bool tsc_deadline;    /* KVM_CAP_TSC_DEADLINE_TIMER */
};

/* Is there such a baseline? */
bool cpuid_baseline_known(const char *name);

/* Changes what kvm_cpuid_supported() gave (room for KVM_CPUID_MAX entries) into what all CPUs
 * share. -ENOTSUP names what the host lacks for the baseline. */
int cpuid_shape(struct kvm_cpuid2 *cpuid, const struct cpuid_options *options, struct error *err);
/* Changes the entries that differ from CPU to CPU. */
void cpuid_number(struct kvm_cpuid2 *cpuid, unsigned int cpu);
