#include "agent/profile.h"

#include <glob.h>

#include "base/cleanup.h"

static json_t *strings(const char *const *list, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(array, json_string(list[i]));
	return array;
}

json_t *profile_masked_paths(void)
{
	static const char *const always[] = {
		"/proc/acpi",        "/proc/asound",    "/proc/interrupts",
		"/proc/kcore",       "/proc/keys",      "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi",      "/proc/timer_list",
		"/proc/timer_stats", "/sys/dev/block",  "/sys/devices/virtual/powercap",
		"/sys/firmware",     "/sys/fs/selinux",
	};
	/* How hot a processor is says what its neighbours compute. */
	static const char pattern[] = "/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle";
	json_t *array = strings(always, ARRAY_COUNT(always));
	glob_t found = {};

	if (glob(pattern, 0, NULL, &found) == 0)
		for (size_t i = 0; i < found.gl_pathc; i++)
			json_array_append_new(array, json_string(found.gl_pathv[i]));
	globfree(&found);
	return array;
}

json_t *profile_readonly_paths(void)
{
	static const char *const always[] = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
					      "/proc/sysrq-trigger" };

	return strings(always, ARRAY_COUNT(always));
}
