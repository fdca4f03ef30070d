#include "container/stats.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

enum { NS_PER_US = 1000, LIST_MAX = 4096 };

/* ---- the kernel's formats ---- */

/* Walks over the lines of a text: *line is a copy of the next one. */
static bool next_line(const char **text, char **line)
{
	size_t n = strcspn(*text, "\n");

	free(*line);
	*line = NULL;
	if (!**text)
		return false;
	*line = mem_strndup(*text, n);
	*text += n + ((*text)[n] == '\n');
	return true;
}

static void put(json_t *object, const char *name, int64_t value)
{
	json_object_set_new(object, name, json_integer(value));
}

json_t *stats_parse_pairs(const char *text)
{
	json_t *object = json_object();
	AUTO(free) char *line = NULL;

	while (next_line(&text, &line)) {
		char *space = strchr(line, ' ');

		if (!space)
			continue;
		*space = '\0';
		put(object, line, strtoll(space + 1, NULL, 10));
	}
	return object;
}

int64_t stats_pair(const char *text, const char *name)
{
	AUTO(json_decref) json_t *pairs = stats_parse_pairs(text);

	return json_integer_value(json_object_get(pairs, name));
}

json_t *stats_parse_pressure(const char *text)
{
	json_t *object = json_object();
	AUTO(free) char *line = NULL;

	while (next_line(&text, &line)) {
		double ten, sixty, hundreds;
		long long total;
		char name[8];

		if (sscanf(line, "%7s avg10=%lf avg60=%lf avg300=%lf total=%lld", name, &ten,
			   &sixty, &hundreds, &total) == 5)
			json_object_set_new(object, name,
					    json_pack("{s:f,s:f,s:f,s:I}", "avg10", ten, "avg60",
						      sixty, "avg300", hundreds, "total",
						      (json_int_t) total));
	}
	return object;
}

static void append_io(json_t *array, unsigned int major, unsigned int minor, const char *op,
		      int64_t value)
{
	json_array_append_new(array, json_pack("{s:i,s:i,s:s,s:I}", "major", (int) major, "minor",
					       (int) minor, "op", op, "value", (json_int_t) value));
}

json_t *stats_parse_blkio(const char *text)
{
	json_t *array = json_array();
	AUTO(free) char *line = NULL;

	while (next_line(&text, &line)) {
		unsigned int major, minor;
		long long value;
		char op[16];

		if (sscanf(line, "%u:%u %15s %lld", &major, &minor, op, &value) == 4)
			append_io(array, major, minor, op, value);
	}
	return array;
}

static int64_t value_of_key(const char *line, const char *key)
{
	size_t length = strlen(key);

	for (const char *p = strchr(line, ' '); p; p = strchr(p, ' ')) {
		p++;
		if (strncmp(p, key, length) == 0 && p[length] == '=')
			return strtoll(p + length + 1, NULL, 10);
	}
	return 0;
}

json_t *stats_parse_io(const char *text, const char *read_key, const char *write_key)
{
	json_t *array = json_array();
	AUTO(free) char *line = NULL;

	while (next_line(&text, &line)) {
		unsigned int major, minor;

		if (sscanf(line, "%u:%u ", &major, &minor) != 2)
			continue;
		append_io(array, major, minor, "Read", value_of_key(line, read_key));
		append_io(array, major, minor, "Write", value_of_key(line, write_key));
	}
	return array;
}

json_t *stats_parse_list(const char *text)
{
	json_t *array = json_array();

	while (*text >= '0' && *text <= '9') {
		char *end;
		unsigned long first = strtoul(text, &end, 10), last = first;

		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		for (; first <= last && json_array_size(array) < LIST_MAX; first++)
			json_array_append_new(array, json_integer((json_int_t) first));
		text = *end == ',' ? end + 1 : end;
	}
	return array;
}

json_t *stats_parse_interfaces(const char *text)
{
	json_t *array = json_array();
	AUTO(free) char *line = NULL;

	while (next_line(&text, &line)) {
		long long rx[4], tx[4];
		char *colon = strchr(line, ':'), *name = line + strspn(line, " ");

		if (!colon || strncmp(name, "lo:", 3) == 0)
			continue;
		*colon = '\0';
		if (sscanf(colon + 1, "%lld %lld %lld %lld %*s %*s %*s %*s %lld %lld %lld %lld",
			   &rx[0], &rx[1], &rx[2], &rx[3], &tx[0], &tx[1], &tx[2], &tx[3]) != 8)
			continue;
		json_array_append_new(
			array,
			json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "Name", name, "RxBytes",
				  (json_int_t) rx[0], "RxPackets", (json_int_t) rx[1], "RxErrors",
				  (json_int_t) rx[2], "RxDropped", (json_int_t) rx[3], "TxBytes",
				  (json_int_t) tx[0], "TxPackets", (json_int_t) tx[1], "TxErrors",
				  (json_int_t) tx[2], "TxDropped", (json_int_t) tx[3]));
	}
	return array;
}

/* ---- files of a group ---- */

/* The text of a file, or "" when there is none. */
static char *text_of(const struct cgroup *cgroup, const char *controller, const char *file)
{
	char *text;

	return cgroup_read(cgroup, controller, file, &text) == 0 ? text : mem_strdup("");
}

/* "max" is as much as one likes, as a number that every reader can hold. */
static int64_t number_of(const struct cgroup *cgroup, const char *controller, const char *file)
{
	AUTO(free) char *text = text_of(cgroup, controller, file);

	return strncmp(text, "max", 3) == 0 ? INT64_MAX : strtoll(text, NULL, 10);
}

static void put_pressure(json_t *object, const struct cgroup *cgroup, const char *controller,
			 const char *file)
{
	AUTO(free) char *text = text_of(cgroup, controller, file);

	if (text[0])
		json_object_set_new(object, "psi", stats_parse_pressure(text));
}

static json_t *cpu_v1(const struct cgroup *cgroup)
{
	AUTO(free) char *stat = text_of(cgroup, "cpu", "cpu.stat");
	AUTO(free) char *times = text_of(cgroup, "cpuacct", "cpuacct.stat");
	AUTO(free) char *each = text_of(cgroup, "cpuacct", "cpuacct.usage_percpu");
	int64_t tick_ns = 1000000000 / sysconf(_SC_CLK_TCK);
	json_t *usage = json_object(), *percpu = json_array();

	put(usage, "total", number_of(cgroup, "cpuacct", "cpuacct.usage"));
	for (char *p = each, *end; (end = p, strtoll(p, &end, 10), end != p); p = end)
		json_array_append_new(percpu, json_integer(strtoll(p, NULL, 10)));
	json_object_set_new(usage, "percpu", percpu);
	put(usage, "user", stats_pair(times, "user") * tick_ns);
	put(usage, "kernel", stats_pair(times, "system") * tick_ns);
	return json_pack("{s:o,s:{s:I,s:I,s:I}}", "usage", usage, "throttling", "periods",
			 (json_int_t) stats_pair(stat, "nr_periods"), "throttledPeriods",
			 (json_int_t) stats_pair(stat, "nr_throttled"), "throttledTime",
			 (json_int_t) stats_pair(stat, "throttled_time"));
}

static json_t *cpu_v2(const struct cgroup *cgroup)
{
	AUTO(free) char *stat = NULL;
	json_t *cpu;

	/* The times are there without the controller, too. */
	if (file_read(cgroup_v2_fd(cgroup), "cpu.stat", 1 << 16, &stat, NULL) < 0)
		stat = mem_strdup("");
	cpu = json_pack("{s:{s:I,s:I,s:I},s:{s:I,s:I,s:I}}", "usage", "total",
			(json_int_t) stats_pair(stat, "usage_usec") * NS_PER_US, "user",
			(json_int_t) stats_pair(stat, "user_usec") * NS_PER_US, "kernel",
			(json_int_t) stats_pair(stat, "system_usec") * NS_PER_US, "throttling",
			"periods", (json_int_t) stats_pair(stat, "nr_periods"), "throttledPeriods",
			(json_int_t) stats_pair(stat, "nr_throttled"), "throttledTime",
			(json_int_t) stats_pair(stat, "throttled_usec") * NS_PER_US);
	put_pressure(cpu, cgroup, "cpu", "cpu.pressure");
	return cpu;
}

static json_t *cpuset_of(const struct cgroup *cgroup)
{
	static const char *const flags[] = {
		"cpu_exclusive",   "mem_hardwall",       "mem_exclusive",
		"memory_migrate",  "memory_spread_page", "memory_spread_slab",
		"memory_pressure", "sched_load_balance", "sched_relax_domain_level",
	};
	bool v2 = cgroup_is_v2(cgroup, "cpuset");
	AUTO(free)
	char *cpus = text_of(cgroup, "cpuset", v2 ? "cpuset.cpus.effective" : "cpuset.cpus");
	AUTO(free)
	char *mems = text_of(cgroup, "cpuset", v2 ? "cpuset.mems.effective" : "cpuset.mems");
	json_t *object = json_object();

	json_object_set_new(object, "cpus", stats_parse_list(cpus));
	json_object_set_new(object, "mems", stats_parse_list(mems));
	for (size_t i = 0; i < ARRAY_COUNT(flags); i++) {
		char file[64];

		snprintf(file, sizeof(file), "cpuset.%s", flags[i]);
		put(object, flags[i], v2 ? 0 : number_of(cgroup, "cpuset", file));
	}
	return object;
}

static json_t *memory_entry_v1(const struct cgroup *cgroup, const char *prefix)
{
	static const char *const names[][2] = { { "limit", "limit_in_bytes" },
						{ "usage", "usage_in_bytes" },
						{ "max", "max_usage_in_bytes" },
						{ "failcnt", "failcnt" } };
	json_t *object = json_object();

	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		char file[64];

		snprintf(file, sizeof(file), "memory.%s%s", prefix, names[i][1]);
		put(object, names[i][0], number_of(cgroup, "memory", file));
	}
	return object;
}

static json_t *memory_v1(const struct cgroup *cgroup)
{
	AUTO(free) char *stat = text_of(cgroup, "memory", "memory.stat");

	return json_pack("{s:I,s:o,s:o,s:o,s:o,s:o}", "cache",
			 (json_int_t) stats_pair(stat, "total_cache"), "usage",
			 memory_entry_v1(cgroup, ""), "swap", memory_entry_v1(cgroup, "memsw."),
			 "kernel", memory_entry_v1(cgroup, "kmem."), "kernelTCP",
			 memory_entry_v1(cgroup, "kmem.tcp."), "raw", stats_parse_pairs(stat));
}

static int64_t sum(int64_t a, int64_t b)
{
	int64_t result;

	return __builtin_add_overflow(a, b, &result) ? INT64_MAX : result;
}

/* Readers know version 1's meaning of swap, which counts memory. */
static json_t *memory_v2(const struct cgroup *cgroup)
{
	AUTO(free) char *stat = text_of(cgroup, "memory", "memory.stat");
	AUTO(free) char *events = text_of(cgroup, "memory", "memory.events");
	int64_t limit = number_of(cgroup, "memory", "memory.max");
	int64_t usage = number_of(cgroup, "memory", "memory.current");
	int64_t swap_limit = number_of(cgroup, "memory", "memory.swap.max");
	int64_t swap = number_of(cgroup, "memory", "memory.swap.current");
	json_t *memory =
		json_pack("{s:I,s:{s:I,s:I,s:I,s:I},s:{s:I,s:I,s:I},s:o,s:o}", "cache",
			  (json_int_t) stats_pair(stat, "file"), "usage", "limit",
			  (json_int_t) limit, "usage", (json_int_t) usage, "max",
			  (json_int_t) number_of(cgroup, "memory", "memory.peak"), "failcnt",
			  (json_int_t) stats_pair(events, "max"), "swap", "limit",
			  (json_int_t) sum(limit, swap_limit), "usage",
			  (json_int_t) sum(usage, swap), "failcnt", (json_int_t) 0, "raw",
			  stats_parse_pairs(stat), "event_count", stats_parse_pairs(events));

	put_pressure(memory, cgroup, "memory", "memory.pressure");
	return memory;
}

static json_t *pids_of(const struct cgroup *cgroup)
{
	int64_t limit = number_of(cgroup, "pids", "pids.max");

	return json_pack("{s:I,s:I}", "current",
			 (json_int_t) number_of(cgroup, "pids", "pids.current"), "limit",
			 (json_int_t) (limit == INT64_MAX ? 0 : limit));
}

static json_t *blkio_v1(const struct cgroup *cgroup)
{
	/* The first that exists: by the BFQ scheduler, or by throttling alone. */
	static const char *const files[][3] = {
		{ "ioServiceBytesRecursive", "blkio.bfq.io_service_bytes_recursive",
		  "blkio.throttle.io_service_bytes_recursive" },
		{ "ioServicedRecursive", "blkio.bfq.io_serviced_recursive",
		  "blkio.throttle.io_serviced_recursive" },
	};
	json_t *object = json_object();

	for (size_t i = 0; i < ARRAY_COUNT(files); i++) {
		for (size_t j = 1; j < 3; j++) {
			AUTO(free) char *text = text_of(cgroup, "blkio", files[i][j]);
			AUTO(json_decref) json_t *array = stats_parse_blkio(text);

			if (json_array_size(array) == 0)
				continue;
			json_object_set(object, files[i][0], array);
			break;
		}
	}
	return object;
}

static json_t *blkio_v2(const struct cgroup *cgroup)
{
	AUTO(free) char *text = text_of(cgroup, "io", "io.stat");
	json_t *object = json_object();

	if (text[0]) {
		json_object_set_new(object, "ioServiceBytesRecursive",
				    stats_parse_io(text, "rbytes", "wbytes"));
		json_object_set_new(object, "ioServicedRecursive",
				    stats_parse_io(text, "rios", "wios"));
	}
	put_pressure(object, cgroup, "io", "io.pressure");
	return object;
}

static json_t *hugepage(const struct cgroup *cgroup, const char *size, bool v2)
{
	char usage[64], max[64], failures[64];

	snprintf(usage, sizeof(usage), "hugetlb.%s.%s", size, v2 ? "current" : "usage_in_bytes");
	snprintf(max, sizeof(max), "hugetlb.%s.max_usage_in_bytes", size);
	snprintf(failures, sizeof(failures), "hugetlb.%s.%s", size, v2 ? "events" : "failcnt");
	if (v2) {
		AUTO(free) char *events = text_of(cgroup, "hugetlb", failures);

		return json_pack("{s:I,s:I}", "usage",
				 (json_int_t) number_of(cgroup, "hugetlb", usage), "failcnt",
				 (json_int_t) stats_pair(events, "max"));
	}
	return json_pack("{s:I,s:I,s:I}", "usage", (json_int_t) number_of(cgroup, "hugetlb", usage),
			 "max", (json_int_t) number_of(cgroup, "hugetlb", max), "failcnt",
			 (json_int_t) number_of(cgroup, "hugetlb", failures));
}

/* Which page sizes there are is what files there are: "hugetlb.2MB.current". */
static json_t *hugetlb_of(const struct cgroup *cgroup)
{
	bool v2 = cgroup_is_v2(cgroup, "hugetlb");
	const char *suffix = v2 ? ".current" : ".usage_in_bytes";
	int fd = cgroup_fd(cgroup, "hugetlb");
	json_t *object = json_object();
	struct dirent *entry;
	DIR *dir;

	fd = fd < 0 ? -1 : openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	while (dir && (entry = readdir(dir))) {
		const char *name = entry->d_name, *end;
		AUTO(free) char *size = NULL;

		if (strncmp(name, "hugetlb.", 8) != 0)
			continue;
		name += 8;
		end = strchr(name, '.');
		if (!end || strcmp(end, suffix) != 0)
			continue;
		size = mem_strndup(name, (size_t) (end - name));
		json_object_set_new(object, size, hugepage(cgroup, size, v2));
	}
	if (dir)
		closedir(dir);
	else
		fd_close(fd);
	return object;
}

static json_t *interfaces_of(pid_t pid)
{
	AUTO(free) char *text = NULL;
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/net/dev", (int) pid);
	if (file_read(AT_FDCWD, path, 1 << 20, &text, NULL) < 0)
		return json_array();
	return stats_parse_interfaces(text);
}

json_t *stats_read(const struct cgroup *cgroup, pid_t pid)
{
	json_t *data = json_object();
	bool v1_cpu = cgroup_has(cgroup, "cpuacct");

	if (v1_cpu || cgroup_v2_fd(cgroup) >= 0)
		json_object_set_new(data, "cpu", v1_cpu ? cpu_v1(cgroup) : cpu_v2(cgroup));
	json_object_set_new(data, "cpuset", cpuset_of(cgroup));
	json_object_set_new(data, "memory",
			    cgroup_is_v2(cgroup, "memory") ? memory_v2(cgroup) : memory_v1(cgroup));
	json_object_set_new(data, "pids", pids_of(cgroup));
	json_object_set_new(data, "blkio",
			    cgroup_has(cgroup, "io") ? blkio_v2(cgroup) : blkio_v1(cgroup));
	json_object_set_new(data, "hugetlb", hugetlb_of(cgroup));
	json_object_set_new(data, "intel_rdt", json_object());
	json_object_set_new(data, "network_interfaces", interfaces_of(pid));
	return data;
}
