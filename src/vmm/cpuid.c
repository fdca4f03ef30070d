#include "vmm/cpuid.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "kern/kvm.h"

#define BIT(n) (1u << (n))

enum { EAX, EBX, ECX, EDX };

/* Features are words: a leaf, its subleaf and a register. */
struct word {
	uint32_t leaf, index;
	int reg;
};

enum { WORDS = 9 };
static const struct word words[WORDS] = {
	{ 1, 0, EDX },          { 1, 0, ECX },          { 7, 0, EBX },
	{ 7, 0, ECX },          { 7, 0, EDX },          { 0x80000001, 0, EDX },
	{ 0x80000001, 0, ECX }, { 0x80000008, 0, EBX }, { 0xd, 1, EAX },
};

/*
 * What every x86-64 processor has: fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov
 * pat pse36 clflush mmx fxsr sse sse2; syscall nx lm.
 */
#define BASE_1_EDX 0x078bfbfdu
#define BASE_EXT_EDX (BIT(11) | BIT(20) | BIT(29))
#define V2_1_ECX (BIT(0) | BIT(9) | BIT(13) | BIT(19) | BIT(20) | BIT(23))
#define V3_1_ECX (V2_1_ECX | BIT(12) | BIT(22) | BIT(26) | BIT(28) | BIT(29))
#define V3_7_EBX (BIT(3) | BIT(5) | BIT(8))
/* x2apic, TSC deadline, hypervisor: KVM's own, on every host. */
#define KVM_1_ECX (BIT(21) | BIT(24) | BIT(31))
/*
 * Not of a baseline, but left when the host has them: what guards against speculation and against
 * user pointers in the kernel (smep, smap, md_clear, ibrs, stibp, arch_capabilities, ssbd, AMD's
 * ibpb, ibrs, stibp, ssbd), and AMD's way to tell the topology.
 */
#define GUARD_7_EBX (BIT(7) | BIT(20))
#define GUARD_7_EDX (BIT(10) | BIT(26) | BIT(27) | BIT(29) | BIT(31))
#define GUARD_EXT8_EBX (BIT(12) | BIT(14) | BIT(15) | BIT(24) | BIT(26))
#define SHAPE_1_EDX BIT(28)
#define SHAPE_EXT_ECX (BIT(1) | BIT(22))

static const struct baseline {
	const char *name;
	uint32_t must[WORDS], may[WORDS];
} baselines[] = {
	{ "x86-64-v2",
	  { BASE_1_EDX, V2_1_ECX, 0, 0, 0, BASE_EXT_EDX, BIT(0), 0, 0 },
	  { SHAPE_1_EDX, KVM_1_ECX, GUARD_7_EBX, 0, GUARD_7_EDX, 0x183f3ffu, SHAPE_EXT_ECX,
	    GUARD_EXT8_EBX, 0 } },
	{ "x86-64-v3",
	  { BASE_1_EDX, V3_1_ECX, V3_7_EBX, 0, 0, BASE_EXT_EDX, BIT(0) | BIT(5), 0, 0 },
	  { SHAPE_1_EDX, KVM_1_ECX, GUARD_7_EBX, 0, GUARD_7_EDX, 0x183f3ffu, SHAPE_EXT_ECX,
	    GUARD_EXT8_EBX, 0 } },
};

static uint32_t *reg_of(struct kvm_cpuid_entry2 *entry, int reg)
{
	switch (reg) {
	case EAX:
		return &entry->eax;
	case EBX:
		return &entry->ebx;
	case ECX:
		return &entry->ecx;
	default:
		return &entry->edx;
	}
}

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t index)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == leaf && cpuid->entries[i].index == index)
			return &cpuid->entries[i];
	return NULL;
}

static void drop(struct kvm_cpuid2 *cpuid, uint32_t leaf)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function != leaf)
			cpuid->entries[kept++] = cpuid->entries[i];
	cpuid->nent = kept;
}

static void add(struct kvm_cpuid2 *cpuid, const struct kvm_cpuid_entry2 *entry)
{
	if (cpuid->nent < KVM_CPUID_MAX)
		cpuid->entries[cpuid->nent++] = *entry;
}

static unsigned int bits_for(unsigned int count)
{
	unsigned int bits = 0;

	while ((1u << bits) < count)
		bits++;
	return bits;
}

bool cpuid_baseline_known(const char *name)
{
	if (strcmp(name, "host") == 0)
		return true;
	for (size_t i = 0; i < ARRAY_COUNT(baselines); i++)
		if (strcmp(baselines[i].name, name) == 0)
			return true;
	return false;
}

/* XSAVE shows x87, SSE and AVX in the standard form, whatever the host has more. */
static void shape_xsave(struct kvm_cpuid2 *cpuid, bool avx)
{
	struct kvm_cpuid_entry2 *ymm = find(cpuid, 0xd, 2);
	struct kvm_cpuid_entry2 saved = ymm ? *ymm : (struct kvm_cpuid_entry2){};
	struct kvm_cpuid_entry2 main = {
		.function = 0xd,
		.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.eax = 7,
	};

	drop(cpuid, 0xd);
	if (!avx || !ymm)
		return;
	main.ebx = main.ecx = saved.ebx + saved.eax;
	add(cpuid, &main);
	add(cpuid, &saved);
}

static int apply_baseline(struct kvm_cpuid2 *cpuid, const struct baseline *baseline,
			  struct error *err)
{
	static const uint32_t hidden[] = { 2,    0x14, 0x15,       0x16,       0x17,      0x18,
					   0x19, 0x1c, 0x1d,       0x1e,       0x20,      0x24,
					   6,    5,    0x80000006, 0x8000001a, 0x80000021 };

	for (unsigned int i = 0; i < WORDS; i++) {
		struct kvm_cpuid_entry2 *entry = find(cpuid, words[i].leaf, words[i].index);
		uint32_t *value = entry ? reg_of(entry, words[i].reg) : NULL;
		uint32_t lacks = baseline->must[i] & ~(value ? *value : 0);

		if (lacks)
			return error_say(
				err, -ENOTSUP,
				"this host's CPU is not of the baseline %s: CPUID %#x has no "
				"bit %d; choose a lower baseline",
				baseline->name, words[i].leaf, __builtin_ctz(lacks));
		if (value)
			*value &= baseline->must[i] | baseline->may[i];
	}
	for (size_t i = 0; i < ARRAY_COUNT(hidden); i++)
		drop(cpuid, hidden[i]);
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 7 && cpuid->entries[i].index > 0)
			memset(&cpuid->entries[i].eax, 0, 4 * sizeof(uint32_t));
	shape_xsave(cpuid, baseline->must[1] & BIT(28));
	return 0;
}

static void shape_topology(struct kvm_cpuid2 *cpuid, unsigned int cpus)
{
	unsigned int bits = bits_for(cpus);
	struct kvm_cpuid_entry2 level = { .function = 0xb,
					  .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX };
	struct kvm_cpuid_entry2 *entry;
	uint32_t basic = (entry = find(cpuid, 0, 0)) ? entry->eax : 0;

	drop(cpuid, 0xb);
	drop(cpuid, 0x1f);
	if (basic < 0xb && entry)
		entry->eax = 0xb;
	level.ebx = 1;
	level.ecx = 0x100;
	add(cpuid, &level);
	level.index = 1;
	level.eax = bits;
	level.ebx = cpus;
	level.ecx = 0x201;
	add(cpuid, &level);

	for (uint32_t i = 0; i < cpuid->nent; i++) {
		entry = &cpuid->entries[i];
		if ((entry->function == 4 || entry->function == 0x8000001d) && entry->eax & 0x1f) {
			/* The last level is shared by all, the others by nobody. */
			unsigned int shared = ((entry->eax >> 5) & 7) >= 3 ? (1u << bits) - 1 : 0;

			entry->eax &= entry->function == 4 ? 0x3fffu : ~(0xfffu << 14);
			entry->eax |= shared << 14;
			if (entry->function == 4)
				entry->eax |= ((1u << bits) - 1) << 26;
		} else if (entry->function == 1) {
			entry->ebx = (entry->ebx & 0xff00u) | (1u << bits) << 16;
			entry->edx &= ~BIT(28);
			entry->edx |= cpus > 1 ? BIT(28) : 0;
		} else if (entry->function == 0x80000001) {
			entry->ecx &= ~BIT(1);
		} else if (entry->function == 0x80000008) {
			entry->ecx = (cpus - 1) | bits << 12;
		} else if (entry->function == 0x8000001e) {
			entry->ecx = 0;
		}
	}
}

int cpuid_shape(struct kvm_cpuid2 *cpuid, const struct cpuid_options *options, struct error *err)
{
	/* Performance counters, SGX, tracing, nested virtualization, memory encryption. */
	static const uint32_t hidden[] = {
		0xa, 0x12, 0x14, 0x23, 0x8000000a, 0x8000001f, 0x80000022
	};
	struct kvm_cpuid_entry2 *entry;
	int r;

	for (size_t i = 0; i < ARRAY_COUNT(hidden); i++)
		drop(cpuid, hidden[i]);
	entry = find(cpuid, 1, 0);
	if (entry) {
		entry->ecx &= ~(BIT(3) | BIT(5) | BIT(15)); /* monitor, vmx, pdcm */
		entry->ecx |= BIT(31) | (options->tsc_deadline ? BIT(24) : 0);
	}
	entry = find(cpuid, 7, 0);
	if (entry) {
		entry->ebx &= ~(BIT(2) | BIT(25)); /* sgx, processor trace */
		entry->ecx &= ~BIT(30);            /* sgx launch control */
	}
	entry = find(cpuid, 0x80000001, 0);
	if (entry)
		entry->ecx &= ~(BIT(2) | BIT(10) | BIT(23) | BIT(24) | BIT(28));
	for (size_t i = 0; i < ARRAY_COUNT(baselines); i++) {
		if (strcmp(baselines[i].name, options->baseline) != 0)
			continue;
		r = apply_baseline(cpuid, &baselines[i], err);
		if (r < 0)
			return r;
	}
	entry = find(cpuid, 6, 0);
	if (entry) {
		entry->eax = BIT(2); /* the APIC's timer never stops */
		entry->ebx = entry->ecx = entry->edx = 0;
	}
	shape_topology(cpuid, options->cpus);
	return 0;
}

void cpuid_number(struct kvm_cpuid2 *cpuid, unsigned int cpu)
{
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		if (entry->function == 1)
			entry->ebx = (entry->ebx & 0xffffffu) | cpu << 24;
		else if (entry->function == 0xb)
			entry->edx = cpu;
		else if (entry->function == 0x8000001e) {
			entry->eax = cpu;
			entry->ebx = cpu;
		}
	}
}
