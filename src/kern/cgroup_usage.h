#pragma once
/*
 * kern/cgroup_usage.h - what a control group has consumed: the kernel's own counters, read.
 *
 * Both versions of the hierarchy behind one struct.  Counters only grow while the group lives; what
 * the kernel does not offer stays 0.  Files are opened relative to the parent's folders and read
 * into one buffer on the stack: a reading of hundreds of groups allocates nothing and leaves no
 * descriptor open.  Used by agent/stats.c.  No state; thread-safe while nobody closes the parent.
 */
#include <stdint.h>

struct cgroup;

struct cgroup_usage {
	uint64_t cpu_ns, cpu_user_ns, cpu_system_ns;
	uint64_t cpu_periods, cpu_throttled_periods, cpu_throttled_ns;
	uint64_t memory_bytes;               /* all of it, page cache included */
	uint64_t memory_inactive_file_bytes; /* page cache that the kernel takes back first */
	uint64_t memory_limit_bytes;         /* 0 = none */
	uint64_t read_bytes, write_bytes, read_ops, write_ops;
	uint64_t pids;
	uint64_t pids_limit; /* 0 = none */
};

/*
 * Reads the group `name` below `parent` (from cgroup_open()).  -ENOENT when it is in no hierarchy.
 */
int cgroup_usage_read(const struct cgroup *parent, const char *name, struct cgroup_usage *ret);

/* Memory that cannot simply be taken back: what limits are compared with and people are shown. */
static inline uint64_t cgroup_usage_memory(const struct cgroup_usage *usage)
{
	return usage->memory_bytes > usage->memory_inactive_file_bytes
		       ? usage->memory_bytes - usage->memory_inactive_file_bytes
		       : 0;
}
