#pragma once
/*
 * vmm/vcpu.h - one virtual CPU: a thread that runs guest code and hands its exits to the buses.
 *
 * Used by vm.c.  Thread: new, free, start, stop, kick and the states belong to the machine's main
 * thread; guest code and device callbacks run in the vCPU's own thread.  A state is read or written
 * only while the vCPU does not run (before vcpu_start(), or after vcpu_pause()).
 */
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "vmm/layout.h"

struct bus;
struct error;
struct vcpu;

/* Why a vCPU gave up; it does not run any more. */
enum vcpu_end {
	VCPU_TRIPLE_FAULT,
	VCPU_RESET_EVENT, /* KVM says so */
	VCPU_FAILED,      /* KVM cannot go on: `why` says more */
};

/* Called in the vCPU's thread. */
typedef void (*vcpu_end_fn)(void *data, enum vcpu_end end, const char *why);
/* Called first in the new thread, for its limits (seccomp); may be NULL. */
typedef void (*vcpu_begin_fn)(void *data);

struct vcpu_options {
	int kvm_fd, vm_fd;
	unsigned int id;
	struct bus *io, *mmio;
	const struct kvm_cpuid2 *cpuid; /* NULL: none; copied by KVM */
	vcpu_begin_fn on_begin;
	vcpu_end_fn on_end;
	void *data;
};

enum { VCPU_MSRS_MAX = 256, VCPU_EXITS = 64 };

/* Everything a guest can know of a CPU: plain, so that a snapshot can write it. */
struct vcpu_state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	uint32_t xsave[1024]; /* struct kvm_xsave */
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp_state;
	struct kvm_lapic_state lapic;
	uint32_t msr_count;
	struct kvm_msr_entry msrs[VCPU_MSRS_MAX];
};

struct vcpu_counters {
	uint64_t exits[VCPU_EXITS]; /* by KVM_EXIT_* */
	uint64_t runs;              /* how often guest code was entered from here */
	uint64_t guest_ns;          /* time in KVM_RUN: guest code and the kernel's part of it */
};

int vcpu_new(const struct vcpu_options *options, struct vcpu **ret, struct error *err);
/* Its thread has been stopped. */
void vcpu_free(struct vcpu *vcpu);
DEFINE_AUTO(struct vcpu *, vcpu_free)

int vcpu_fd(const struct vcpu *vcpu);
/* KVM's statistics of it (kern/kvm.h), to be read at any time; -1 where the kernel has none. */
int vcpu_stats_fd(const struct vcpu *vcpu);

/* Starts its thread, paused when `paused`. */
int vcpu_start(struct vcpu *vcpu, bool paused, struct error *err);
/* Asks it to leave guest code; vcpu_wait_paused() returns when it has (also when it ended). */
void vcpu_pause(struct vcpu *vcpu);
void vcpu_wait_paused(struct vcpu *vcpu);
/* Goes on; also after it ended (a reset has put a new state into it). */
void vcpu_resume(struct vcpu *vcpu);
/* From its own thread, in a device's callback: pauses before more guest code runs. */
void vcpu_pause_self(void);
/* Ends and joins the thread. */
void vcpu_stop(struct vcpu *vcpu);

int vcpu_get_state(struct vcpu *vcpu, struct vcpu_state *ret, struct error *err);
int vcpu_set_state(struct vcpu *vcpu, const struct vcpu_state *state, struct error *err);

/* A consistent enough copy, at any time. */
void vcpu_read_counters(const struct vcpu *vcpu, struct vcpu_counters *ret);
/* "io", "mmio", "hlt"...; NULL for numbers without a name. */
const char *vcpu_exit_name(unsigned int reason);
