#include "machine/probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/mem.h"

enum {
	/*
	 * QEMU's translator has a tenth of a processor's speed, whichever that is.  KVM with less
	 * than that in ring 0 is the slower one.
	 */
	RING0_SHARE = 10,
	/* Nothing that a system could be booted with. */
	RING0_MIPS_MIN = 5,
	/* Of processor time, in a round that tells something. */
	ROUND_NS_MIN = 200 * 1000,
	FILE_BYTES_MAX = 1 << 20,
};

/* A round that is not faster by a quarter than the best one so far. */
#define SPEED_SETTLED 1.25

bool probe_speed_add(struct probe_speed *speed, uint64_t instructions, uint64_t cpu_ns)
{
	double mips, best = speed->mips;

	if (cpu_ns < ROUND_NS_MIN || instructions == 0)
		return false;
	mips = (double) instructions * 1000 / (double) cpu_ns;
	if (mips > best)
		speed->mips = mips;
	return best > 0 && mips <= best * SPEED_SETTLED;
}

static void decide_unusable(const struct probe_facts *facts, char *why)
{
	if (facts->open_error == -ENOENT)
		snprintf(why, PROBE_WHY_SIZE, "%s",
			 facts->flags ? "there is no /dev/kvm (modprobe kvm-intel or kvm-amd)"
				      : "there is no /dev/kvm, and the processor shows neither "
					"vmx nor svm");
	else if (facts->open_error != 0)
		snprintf(why, PROBE_WHY_SIZE, "/dev/kvm cannot be used: %s",
			 strerror(-facts->open_error));
	else if (facts->run_error == -ETIMEDOUT)
		snprintf(why, PROBE_WHY_SIZE, "/dev/kvm is there, but a tiny guest hangs in it");
	else if (facts->run_error != 0)
		snprintf(why, PROBE_WHY_SIZE, "/dev/kvm cannot run a tiny guest: %s",
			 strerror(-facts->run_error));
	else
		snprintf(why, PROBE_WHY_SIZE,
			 "/dev/kvm runs ring 0 at %.1f million instructions a second here (ring 3: "
			 "%.0f)",
			 facts->ring0_mips, facts->ring3_mips);
}

void probe_decide(const struct probe_facts *facts, struct probe_verdict *ret)
{
	*ret = (struct probe_verdict){};
	ret->usable = facts->open_error == 0 && facts->run_error == 0 &&
		      facts->ring0_mips >= RING0_MIPS_MIN &&
		      facts->ring0_mips * RING0_SHARE >= facts->ring3_mips;
	if (!ret->usable)
		decide_unusable(facts, ret->why);
	else
		snprintf(ret->why, sizeof(ret->why),
			 "/dev/kvm runs ring 0 at %.0f million instructions a second%s%s",
			 facts->ring0_mips, facts->nested_paging ? ", with nested paging" : "",
			 facts->xsetbv_lost ? "; guests see no XSAVE, this KVM loses it" : "");
}

/* -- what the processor and the kernel say ------------------------------------------------------
 */

/* Is `flag` among the words of the first "flags" line? */
static bool has_flag(const char *cpuinfo, const char *flag)
{
	const char *line = strstr(cpuinfo, "\nflags");
	size_t size = strlen(flag);

	if (!line)
		return false;
	line++;
	const char *end = line + strcspn(line, "\n");
	for (const char *p = line; p + size < end; p++)
		if (p[0] == ' ' && strncmp(p + 1, flag, size) == 0 &&
		    (p[1 + size] == ' ' || p + 1 + size == end))
			return true;
	return false;
}

/* A module's parameter: "Y" or "1". */
static bool parameter(const char *sys, const char *module, const char *name)
{
	AUTO(free) char *path = mem_printf("%s/module/%s/parameters/%s", sys, module, name);
	AUTO(free) char *text = NULL;

	return file_read(AT_FDCWD, path, 64, &text, NULL) == 0 &&
	       (text[0] == 'Y' || text[0] == '1');
}

static uint32_t count_entries(const char *sys)
{
	AUTO(free) char *path = mem_printf("%s/kernel/iommu_groups", sys);
	DIR *dir = opendir(path);
	uint32_t count = 0;

	for (const struct dirent *entry; dir && (entry = readdir(dir));)
		count += entry->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return count;
}

void probe_read_flags(const char *proc, const char *sys, struct probe_facts *facts)
{
	AUTO(free) char *path = mem_printf("%s/cpuinfo", proc);
	AUTO(free) char *text = NULL;

	if (file_read(AT_FDCWD, path, FILE_BYTES_MAX, &text, NULL) < 0)
		text = mem_strdup("");
	facts->flags = has_flag(text, "vmx") || has_flag(text, "svm");
	facts->nested_paging =
		parameter(sys, "kvm_intel", "ept") || parameter(sys, "kvm_amd", "npt");
	facts->apicv =
		parameter(sys, "kvm_intel", "enable_apicv") || parameter(sys, "kvm_amd", "avic");
	facts->iommu_groups = count_entries(sys);
}

/* -- once ---------------------------------------------------------------------------------------
 */

/*
 * The one place in machine/ that keeps something: what the hardware can do does not change while
 * it is on, and asking it takes time.
 */
static struct probe_facts host_facts;
static struct probe_verdict host_verdict;

static void measure_host(void)
{
	probe_read_flags("/proc", "/sys", &host_facts);
	probe_measure(&host_facts);
	probe_decide(&host_facts, &host_verdict);
}

void probe_host(struct probe_facts *ret_facts, struct probe_verdict *ret_verdict)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, measure_host);
	*ret_facts = host_facts;
	*ret_verdict = host_verdict;
}
