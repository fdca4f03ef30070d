#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"
#include "kern/kvm.h"
#include "vmm/cpuid.h"

static struct kvm_cpuid2 *make(void)
{
	struct kvm_cpuid2 *cpuid =
		mem_zalloc(sizeof(*cpuid) + KVM_CPUID_MAX * sizeof(struct kvm_cpuid_entry2));
	static const struct kvm_cpuid_entry2 entries[] = {
		{ .function = 0, .eax = 0x1f },
		{ .function = 1, .ebx = 0x07080800, .ecx = 0xffffffff, .edx = 0xffffffff },
		{ .function = 4, .index = 0, .flags = 1, .eax = 0x1c004121 },
		{ .function = 4, .index = 3, .flags = 1, .eax = 0x1c03c163 },
		{ .function = 6, .eax = 0xffffffff, .ebx = 2, .ecx = 9 },
		{ .function = 7,
		  .flags = 1,
		  .eax = 1,
		  .ebx = 0xffffffff,
		  .ecx = 0xffffffff,
		  .edx = 0xffffffff },
		{ .function = 7, .index = 1, .flags = 1, .eax = 0xffff },
		{ .function = 0xa, .eax = 0x7300404 },
		{ .function = 0xb, .flags = 1, .eax = 1, .ebx = 2, .ecx = 0x100, .edx = 7 },
		{ .function = 0xd, .flags = 1, .eax = 0x2e7, .ebx = 2696, .ecx = 2696 },
		{ .function = 0xd, .index = 1, .flags = 1, .eax = 0xf },
		{ .function = 0xd, .index = 2, .flags = 1, .eax = 256, .ebx = 576 },
		{ .function = 0xd, .index = 9, .flags = 1, .eax = 8, .ebx = 2688 },
		{ .function = 0x14, .flags = 1, .eax = 1, .ebx = 0xf },
		{ .function = 0x1f, .flags = 1, .eax = 1 },
		{ .function = 0x40000000, .eax = 0x40000001, .ebx = 0x4b4d564b },
		{ .function = 0x80000001, .ecx = 0xffffffff, .edx = 0xffffffff },
		{ .function = 0x80000008, .eax = 0x302e, .ebx = 0xffffffff, .ecx = 7 },
		{ .function = 0x8000000a, .eax = 1 },
		{ .function = 0x8000001e, .eax = 7, .ebx = 0x103, .ecx = 1 },
	};

	memcpy(cpuid->entries, entries, sizeof(entries));
	cpuid->nent = ARRAY_COUNT(entries);
	return cpuid;
}

static struct kvm_cpuid_entry2 *get(struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t index)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == leaf && cpuid->entries[i].index == index)
			return &cpuid->entries[i];
	return NULL;
}

static void shows_our_topology(void **state)
{
	AUTO(free) struct kvm_cpuid2 *cpuid = make();
	struct cpuid_options options = { .cpus = 6, .baseline = "host", .tsc_deadline = true };

	(void) state;
	assert_int_equal(cpuid_shape(cpuid, &options, NULL), 0);
	cpuid_number(cpuid, 5);
	assert_int_equal(get(cpuid, 1, 0)->ebx, 5u << 24 | 8 << 16 | 0x800);
	assert_int_equal(get(cpuid, 1, 0)->edx & 1 << 28, 1 << 28);
	assert_int_equal(get(cpuid, 0xb, 0)->ebx, 1);
	assert_int_equal(get(cpuid, 0xb, 0)->edx, 5);
	assert_int_equal(get(cpuid, 0xb, 1)->eax, 3);
	assert_int_equal(get(cpuid, 0xb, 1)->ebx, 6);
	assert_int_equal(get(cpuid, 0xb, 1)->ecx, 0x201);
	assert_int_equal(get(cpuid, 0xb, 1)->edx, 5);
	assert_int_equal(get(cpuid, 4, 0)->eax >> 14 & 0xfff, 0);
	assert_int_equal(get(cpuid, 4, 3)->eax >> 14 & 0xfff, 7);
	assert_int_equal(get(cpuid, 4, 3)->eax >> 26, 7);
	assert_int_equal(get(cpuid, 0x80000008, 0)->ecx, 5 | 3 << 12);
	assert_int_equal(get(cpuid, 0x8000001e, 0)->eax, 5);
	/* KVM's leaves stay. */
	assert_non_null(get(cpuid, 0x40000000, 0));
	assert_int_equal(get(cpuid, 6, 0)->eax, 4);
}

static void hides_what_a_guest_shall_not_have(void **state)
{
	AUTO(free) struct kvm_cpuid2 *cpuid = make();
	struct cpuid_options options = { .cpus = 1, .baseline = "host" };

	(void) state;
	assert_int_equal(cpuid_shape(cpuid, &options, NULL), 0);
	assert_int_equal(get(cpuid, 1, 0)->ecx & 1 << 5, 0);          /* vmx */
	assert_int_equal(get(cpuid, 1, 0)->edx & 1 << 28, 0);         /* one CPU */
	assert_int_equal(get(cpuid, 0x80000001, 0)->ecx & 1 << 2, 0); /* svm */
	assert_int_equal(get(cpuid, 7, 0)->ebx & (1 << 2 | 1 << 25), 0);
	assert_null(get(cpuid, 0xa, 0));
	assert_null(get(cpuid, 0x14, 0));
	assert_null(get(cpuid, 0x1f, 0));
	assert_null(get(cpuid, 0x8000000a, 0));
	assert_int_equal(get(cpuid, 0xd, 0)->eax, 0x2e7);
}

static void baselines_are_alike_everywhere(void **state)
{
	AUTO(free) struct kvm_cpuid2 *cpuid = make();
	struct cpuid_options options = { .cpus = 2, .baseline = "x86-64-v3" };
	struct error err = {};

	(void) state;
	assert_int_equal(cpuid_shape(cpuid, &options, NULL), 0);
	assert_int_equal(get(cpuid, 7, 0)->ebx & (1 << 16), 0); /* avx512f */
	assert_int_equal(get(cpuid, 7, 0)->ebx & (1 << 5), 1 << 5);
	assert_int_equal(get(cpuid, 7, 0)->ecx, 0);
	assert_int_equal(get(cpuid, 7, 1)->eax, 0);
	assert_int_equal(get(cpuid, 1, 0)->ecx & 1 << 25, 0); /* aes is not of it */
	assert_int_equal(get(cpuid, 0xd, 0)->eax, 7);
	assert_int_equal(get(cpuid, 0xd, 0)->ecx, 832);
	assert_null(get(cpuid, 0xd, 9));

	free(cpuid);
	cpuid = make();
	options.baseline = "x86-64-v2";
	assert_int_equal(cpuid_shape(cpuid, &options, NULL), 0);
	assert_int_equal(get(cpuid, 1, 0)->ecx & (1 << 28 | 1 << 26), 0);
	assert_null(get(cpuid, 0xd, 0));

	free(cpuid);
	cpuid = make();
	get(cpuid, 7, 0)->ebx = 0;
	assert_int_equal(cpuid_shape(cpuid, &options, NULL), 0);
	options.baseline = "x86-64-v3";
	assert_int_equal(cpuid_shape(cpuid, &options, &err), -ENOTSUP);
	assert_non_null(strstr(err.msg, "x86-64-v3"));
	assert_true(cpuid_baseline_known("host") && cpuid_baseline_known("x86-64-v2"));
	assert_false(cpuid_baseline_known("x86-64-v9"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shows_our_topology),
		cmocka_unit_test(hides_what_a_guest_shall_not_have),
		cmocka_unit_test(baselines_are_alike_everywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
