#include "agent/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/agent_internal.h"
#include "agent/oci.h"
#include "agent/usage.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "kern/cgroup.h"

enum { NOTE_MAX = 128, CPU_PERIOD_US = 100000, NUMBER_SIZE = 24 };

int limits_write(const struct agent *agent, const char *uid, const struct instance_limits *limits,
		 struct error *err)
{
	AUTO(free) char *path = agent_run_path(agent, uid, "limits");
	char text[NOTE_MAX];
	int r;

	snprintf(text, sizeof(text), "%.17g %llu %llu\n", limits->cpus,
		 (unsigned long long) limits->memory_bytes, (unsigned long long) limits->pids);
	r = file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, 0);
	return r < 0 ? error_set(err, r, "write %s", path) : 0;
}

int limits_read(const struct agent *agent, const char *uid, struct instance_limits *ret)
{
	AUTO(free) char *path = agent_run_path(agent, uid, "limits");
	AUTO(free) char *text = NULL;
	unsigned long long memory_bytes, pids;
	double cpus;
	int r = file_read(AT_FDCWD, path, NOTE_MAX, &text, NULL);

	if (r < 0)
		return r;
	if (sscanf(text, "%lf %llu %llu", &cpus, &memory_bytes, &pids) != 3)
		return -ENOENT;
	*ret = (struct instance_limits){ cpus, memory_bytes, pids };
	return 0;
}

static int check_memory(const struct agent *agent, const char *uid, uint64_t limit_bytes,
			struct error *err)
{
	AUTO(cgroup_free) struct cgroup *all = NULL;
	struct usage usage;

	if (limit_bytes == 0 || usage_open(agent, &all) < 0 || usage_read(all, uid, &usage) < 0 ||
	    usage.memory_bytes <= limit_bytes)
		return 0;
	return error_say(err, -EBUSY, "memory: it uses %.1f MiB now, more than a limit of %.1f MiB",
			 (double) usage.memory_bytes / (1 << 20), (double) limit_bytes / (1 << 20));
}

/* -1 is "no limit" for brume-oci. */
static const char *number(char text[NUMBER_SIZE], uint64_t value)
{
	snprintf(text, NUMBER_SIZE, "%lld", value > 0 ? (long long) value : -1LL);
	return text;
}

int limits_apply(const struct agent *agent, const char *uid, const struct instance_limits *limits,
		 struct error *err)
{
	char quota[NUMBER_SIZE], period[NUMBER_SIZE], memory[NUMBER_SIZE], pids[NUMBER_SIZE];
	char *argv[] = { (char *) "update",
			 (char *) "--cpu-period",
			 (char *) number(period, CPU_PERIOD_US),
			 (char *) "--cpu-quota",
			 (char *) number(quota, (uint64_t) llround(limits->cpus * CPU_PERIOD_US)),
			 (char *) "--memory",
			 (char *) number(memory, limits->memory_bytes),
			 (char *) "--memory-swap",
			 memory,
			 (char *) "--pids-limit",
			 (char *) number(pids, limits->pids),
			 (char *) uid,
			 NULL };
	int r = check_memory(agent, uid, limits->memory_bytes, err);

	if (r == 0)
		r = oci_run(agent->options, argv, NULL, err);
	return r < 0 ? r : limits_write(agent, uid, limits, err);
}
