#include "kern/statfs.h"

#include <linux/magic.h>
#include <stddef.h>
#include <sys/statfs.h>

#include "base/cleanup.h"

enum { MQUEUE_MAGIC = 0x19800202 };

const char *statfs_made_up(int fd)
{
	static const struct {
		unsigned long magic;
		const char *name;
	} known[] = {
		{ PROC_SUPER_MAGIC, "proc" },       { SYSFS_MAGIC, "sysfs" },
		{ CGROUP_SUPER_MAGIC, "cgroup" },   { CGROUP2_SUPER_MAGIC, "cgroup2" },
		{ DEVPTS_SUPER_MAGIC, "devpts" },   { MQUEUE_MAGIC, "mqueue" },
		{ DEBUGFS_MAGIC, "debugfs" },       { TRACEFS_MAGIC, "tracefs" },
		{ SECURITYFS_MAGIC, "securityfs" }, { BPF_FS_MAGIC, "bpf" },
	};
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return NULL;
	for (size_t i = 0; i < ARRAY_COUNT(known); i++)
		if ((unsigned long) fs.f_type == known[i].magic)
			return known[i].name;
	return NULL;
}
