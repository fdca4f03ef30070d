#pragma once
/*
 * machine/probe.h - what this host's hardware can do for virtual machines, measured.
 *
 * That /dev/kvm opens says little: on some hosts it emulates ring 0 a thousand times too slowly.
 * So a guest of two instructions counts for a few milliseconds in ring 0 and in ring 3: the same
 * speed in both is what hardware gives, and hardware that is itself emulated.  It runs in a child
 * that a timer interrupts and that is killed if even that does not help; nothing hangs.
 * Used by machine_choose() and by the agent, which reports it as the node's status.
 * Thread-safe; probe_host() measures once per process: 10 ms, 300 ms on an emulated processor.
 */
#include <stdbool.h>
#include <stdint.h>

enum { PROBE_WHY_SIZE = 160 };

struct probe_facts {
	int open_error; /* 0, or why /dev/kvm cannot be used (-ENOENT, ...) */
	int run_error;  /* 0, or why the tiny guest could not be run */
	bool flags;     /* the processor has vmx or svm */
	bool nested_paging, apicv;
	uint32_t iommu_groups;
	double ring0_mips, ring3_mips; /* million instructions a second; 0: not measured */
	/*
	 * A guest's XSETBV does not reach KVM, which then loses the guest's XCR0 at the next exit.
	 * Emulators of SVM do that; guests must not be shown XSAVE there.
	 */
	bool xsetbv_lost;
};

struct probe_verdict {
	bool usable; /* brume-vmm can be used */
	char why[PROBE_WHY_SIZE];
};

/* Decides by the numbers alone. */
void probe_decide(const struct probe_facts *facts, struct probe_verdict *ret);

/* Measures, the first time; the same answer ever after. */
void probe_host(struct probe_facts *ret_facts, struct probe_verdict *ret_verdict);

/*
 * One ring's speed, from rounds of which each lasts twice as long as the one before: what entering
 * and leaving a guest costs weighs less and less, and what is emulated gets warm.
 */
struct probe_speed {
	double mips; /* of the fastest round */
};

/* Takes a round in; true: the speed is known well enough, another round would not add to it. */
bool probe_speed_add(struct probe_speed *speed, uint64_t instructions, uint64_t cpu_ns);

/* -- its parts ----------------------------------------------------------------------------------
 */

/* Looks below these folders instead of /proc and /sys. */
void probe_read_flags(const char *proc, const char *sys, struct probe_facts *facts);

/* Runs the tiny guest; fills in what it shows. */
void probe_measure(struct probe_facts *facts);
