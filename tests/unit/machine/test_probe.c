#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/mem.h"
#include "machine/probe.h"

static struct probe_verdict decide(struct probe_facts facts)
{
	struct probe_verdict verdict;

	probe_decide(&facts, &verdict);
	return verdict;
}

static void decides_by_the_numbers(void **state)
{
	struct probe_verdict verdict =
		decide((struct probe_facts){ .ring0_mips = 0.6, .ring3_mips = 2200 });

	(void) state;
	assert_false(verdict.usable);
	assert_string_equal(verdict.why, "/dev/kvm runs ring 0 at 0.6 million instructions a "
					 "second here (ring 3: 2200)");
	verdict = decide((struct probe_facts){
		.ring0_mips = 3100, .ring3_mips = 3100, .nested_paging = true });
	assert_true(verdict.usable);
	assert_string_equal(verdict.why, "/dev/kvm runs ring 0 at 3100 million instructions a "
					 "second, with nested paging");
	verdict = decide(
		(struct probe_facts){ .ring0_mips = 190, .ring3_mips = 205, .xsetbv_lost = true });
	assert_true(verdict.usable);
	assert_non_null(strstr(verdict.why, "no XSAVE"));
}

/* It is the share of ring 3's speed that tells hardware from an emulation of ring 0. */
static void compares_the_rings(void **state)
{
	static const struct {
		double ring0_mips, ring3_mips;
		bool usable;
	} rows[] = {
		{ 3100, 3100, true }, { 414, 3100, true }, { 49, 3100, false },
		{ 0.6, 2200, false }, { 180, 210, true },  { 21, 150, true },
		{ 14, 150, false },   { 4.9, 4.9, false }, { 5.1, 4.9, true },
		{ 414, 0, true },     { 2000, 150, true },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(decide((struct probe_facts){ .ring0_mips = rows[i].ring0_mips,
							      .ring3_mips = rows[i].ring3_mips })
					 .usable,
				 rows[i].usable);
}

/* Rounds of {thousand instructions, microseconds}, and after which of them it is known. */
static void finds_the_speed(void **state)
{
	static const struct {
		unsigned int kilo[8], us[8], rounds;
		double mips;
	} rows[] = {
		/* a real processor: the first one has paid for the cold caches */
		{ { 2000, 6100 }, { 1000, 2000 }, 0, 3050 },
		{ { 2800, 6100 }, { 1000, 2000 }, 2, 3050 },
		/* ring 0 emulated */
		{ { 0, 1 }, { 1000, 2000 }, 0, 0.5 },
		{ { 1, 1 }, { 1500, 1800 }, 2, 0.667 },
		/* an emulated processor: nothing at all, then slowly warm */
		{ { 0, 0, 0, 400, 2400, 5600 }, { 1000, 2000, 4000, 8000, 16000, 32000 }, 6, 175 },
		/* a busy host: rounds without processor time tell nothing */
		{ { 300, 10, 0, 23000 }, { 100, 10, 0, 8000 }, 0, 2875 },
		/* another program in between */
		{ { 3000, 1000 }, { 1000, 2000 }, 2, 3000 },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct probe_speed speed = {};
		unsigned int known = 0;

		for (unsigned int n = 0; n < 8 && known == 0; n++)
			if (probe_speed_add(&speed, rows[i].kilo[n] * 1000ull,
					    rows[i].us[n] * 1000ull))
				known = n + 1;
		assert_int_equal(known, rows[i].rounds);
		assert_true(speed.mips > rows[i].mips * 0.99 && speed.mips < rows[i].mips * 1.01);
	}
}

static void says_what_is_missing(void **state)
{
	static const struct {
		struct probe_facts facts;
		const char *words;
	} rows[] = {
		{ { .open_error = -ENOENT }, "neither vmx nor svm" },
		{ { .open_error = -ENOENT, .flags = true }, "modprobe" },
		{ { .open_error = -EACCES }, "Permission denied" },
		{ { .open_error = -ENOTSUP }, "not supported" },
		{ { .run_error = -ETIMEDOUT }, "hangs" },
		{ { .run_error = -EINVAL }, "Invalid argument" },
		{ {}, "0.0 million" },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct probe_verdict verdict = decide(rows[i].facts);

		assert_false(verdict.usable);
		assert_non_null(strstr(verdict.why, rows[i].words));
	}
}

static void put(const char *dir, const char *name, const char *text)
{
	AUTO(free) char *path = mem_printf("%s/%s", dir, name);
	AUTO(free) char *folder = mem_strdup(path);

	*strrchr(folder, '/') = '\0';
	assert_int_equal(file_mkdir_all(folder, 0700), 0);
	assert_int_equal(file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, 0), 0);
}

static void reads_flags(void **state)
{
	char dir[] = "/tmp/brume-probe-XXXXXX";
	struct probe_facts facts = {};

	(void) state;
	assert_non_null(mkdtemp(dir));
	probe_read_flags(dir, dir, &facts);
	assert_false(facts.flags || facts.nested_paging || facts.apicv || facts.iommu_groups);

	put(dir, "cpuinfo", "model name\t: vmx\nflags\t\t: fpu vmxx svm\nbugs\t: x\n");
	put(dir, "module/kvm_amd/parameters/npt", "1\n");
	put(dir, "module/kvm_amd/parameters/avic", "N\n");
	put(dir, "kernel/iommu_groups/0/type", "DMA\n");
	put(dir, "kernel/iommu_groups/1/type", "DMA\n");
	probe_read_flags(dir, dir, &facts);
	assert_true(facts.flags);
	assert_true(facts.nested_paging);
	assert_false(facts.apicv);
	assert_int_equal(facts.iommu_groups, 2);

	put(dir, "cpuinfo", "model name\t: vmx\nflags\t\t: fpu vmxx asvm\n");
	probe_read_flags(dir, dir, &facts);
	assert_false(facts.flags);
	file_remove_tree(AT_FDCWD, dir);
}

/* Whatever this host is, there is an answer, and it is the same one twice. */
static void the_host_has_an_answer(void **state)
{
	struct probe_facts facts[2];
	struct probe_verdict verdicts[2];

	(void) state;
	probe_host(&facts[0], &verdicts[0]);
	probe_host(&facts[1], &verdicts[1]);
	assert_true(verdicts[0].why[0] != '\0');
	assert_string_equal(verdicts[0].why, verdicts[1].why);
	assert_true(facts[0].open_error <= 0 && facts[0].run_error <= 0);
	assert_true(facts[0].ring0_mips == facts[1].ring0_mips);
	if (facts[0].open_error == 0 && facts[0].run_error == 0)
		assert_true(facts[0].ring0_mips > 0 && facts[0].ring3_mips > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decides_by_the_numbers),
		cmocka_unit_test(compares_the_rings),
		cmocka_unit_test(finds_the_speed),
		cmocka_unit_test(says_what_is_missing),
		cmocka_unit_test(reads_flags),
		cmocka_unit_test(the_host_has_an_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
