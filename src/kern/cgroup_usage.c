#include "kern/cgroup_usage.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kern/cgroup.h"

enum { TEXT_SIZE = 32 * 1024, NS_PER_US = 1000 };

/* Version 1 says "no limit" with the largest multiple of a page. */
#define V1_NO_LIMIT (UINT64_C(1) << 62)

struct reading {
	const struct cgroup *parent;
	const char *name;
	bool found;
	char text[TEXT_SIZE];
};

/* The text of one file, "" when it cannot be read. */
static const char *read_text(struct reading *reading, const char *controller, const char *file)
{
	int folder = cgroup_fd(reading->parent, controller);
	char path[NAME_MAX + 64];
	size_t size = 0;
	ssize_t n;

	reading->text[0] = '\0';
	if (folder < 0 ||
	    snprintf(path, sizeof(path), "%s/%s", reading->name, file) >= (int) sizeof(path))
		return reading->text;
	AUTO(fd_close) int fd = openat(folder, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return reading->text;
	reading->found = true;
	while (size < sizeof(reading->text) - 1) {
		n = read(fd, reading->text + size, sizeof(reading->text) - 1 - size);
		if (n <= 0)
			break;
		size += (size_t) n;
	}
	reading->text[size] = '\0';
	return reading->text;
}

static uint64_t read_number(struct reading *reading, const char *controller, const char *file)
{
	return strtoull(read_text(reading, controller, file), NULL, 10);
}

/* "max" and what is as good as that is 0. */
static uint64_t read_limit(struct reading *reading, const char *controller, const char *file)
{
	uint64_t value = read_number(reading, controller, file);

	return value >= V1_NO_LIMIT ? 0 : value;
}

/* The number behind "KEY " at the start of a line. */
static uint64_t value_of(const char *text, const char *key)
{
	size_t size = strlen(key);

	while (text && *text) {
		if (strncmp(text, key, size) == 0 && text[size] == ' ')
			return strtoull(text + size + 1, NULL, 10);
		text = strchr(text, '\n');
		text += text != NULL;
	}
	return 0;
}

static void read_cpu_v2(struct reading *reading, struct cgroup_usage *ret)
{
	const char *text = read_text(reading, "cpu", "cpu.stat");

	ret->cpu_ns = value_of(text, "usage_usec") * NS_PER_US;
	ret->cpu_user_ns = value_of(text, "user_usec") * NS_PER_US;
	ret->cpu_system_ns = value_of(text, "system_usec") * NS_PER_US;
	ret->cpu_periods = value_of(text, "nr_periods");
	ret->cpu_throttled_periods = value_of(text, "nr_throttled");
	ret->cpu_throttled_ns = value_of(text, "throttled_usec") * NS_PER_US;
}

static void read_cpu_v1(struct reading *reading, struct cgroup_usage *ret)
{
	const char *text = read_text(reading, "cpu", "cpu.stat");

	ret->cpu_periods = value_of(text, "nr_periods");
	ret->cpu_throttled_periods = value_of(text, "nr_throttled");
	ret->cpu_throttled_ns = value_of(text, "throttled_time");
	ret->cpu_ns = read_number(reading, "cpuacct", "cpuacct.usage");
	ret->cpu_user_ns = read_number(reading, "cpuacct", "cpuacct.usage_user");
	ret->cpu_system_ns = read_number(reading, "cpuacct", "cpuacct.usage_sys");
}

static void read_memory(struct reading *reading, bool v2, struct cgroup_usage *ret)
{
	const char *text = read_text(reading, "memory", "memory.stat");

	ret->memory_inactive_file_bytes =
		value_of(text, v2 ? "inactive_file" : "total_inactive_file");
	ret->memory_bytes =
		read_number(reading, "memory", v2 ? "memory.current" : "memory.usage_in_bytes");
	ret->memory_limit_bytes =
		read_limit(reading, "memory", v2 ? "memory.max" : "memory.limit_in_bytes");
}

/* "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6", a line for each device. */
static void read_io_v2(struct reading *reading, struct cgroup_usage *ret)
{
	const struct {
		const char *key;
		uint64_t *sum;
	} keys[] = { { " rbytes=", &ret->read_bytes },
		     { " wbytes=", &ret->write_bytes },
		     { " rios=", &ret->read_ops },
		     { " wios=", &ret->write_ops } };
	const char *text = read_text(reading, "io", "io.stat");

	for (size_t i = 0; i < ARRAY_COUNT(keys); i++)
		for (const char *p = strstr(text, keys[i].key); p; p = strstr(p, keys[i].key)) {
			p += strlen(keys[i].key);
			*keys[i].sum += strtoull(p, NULL, 10);
		}
}

/* "8:0 Read 4096", lines for each device, and a "Total 4096" that is not needed. */
static void read_io_v1(struct reading *reading, const char *file, uint64_t *ret_read,
		       uint64_t *ret_write)
{
	const char *text = read_text(reading, "blkio", file);

	for (const char *p = strstr(text, " Read "); p; p = strstr(p + 1, " Read "))
		*ret_read += strtoull(p + strlen(" Read "), NULL, 10);
	for (const char *p = strstr(text, " Write "); p; p = strstr(p + 1, " Write "))
		*ret_write += strtoull(p + strlen(" Write "), NULL, 10);
}

int cgroup_usage_read(const struct cgroup *parent, const char *name, struct cgroup_usage *ret)
{
	struct cgroup_usage usage = {};
	struct reading reading;

	reading.parent = parent;
	reading.name = name;
	reading.found = false;
	if (cgroup_is_v2(parent, "cpu"))
		read_cpu_v2(&reading, &usage);
	else
		read_cpu_v1(&reading, &usage);
	read_memory(&reading, cgroup_is_v2(parent, "memory"), &usage);
	if (cgroup_has(parent, "io")) {
		read_io_v2(&reading, &usage);
	} else {
		read_io_v1(&reading, "blkio.throttle.io_service_bytes_recursive", &usage.read_bytes,
			   &usage.write_bytes);
		read_io_v1(&reading, "blkio.throttle.io_serviced_recursive", &usage.read_ops,
			   &usage.write_ops);
	}
	usage.pids = read_number(&reading, "pids", "pids.current");
	usage.pids_limit = read_limit(&reading, "pids", "pids.max");
	if (!reading.found)
		return -ENOENT;
	*ret = usage;
	return 0;
}
