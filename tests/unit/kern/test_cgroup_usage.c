#include "kern/cgroup_usage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/mem.h"
#include "kern/cgroup.h"

/* A tree of files that looks like the kernel's. */
struct tree {
	char path[64];
	struct cgroup_host host;
	struct cgroup *parent;
};

static void put(const struct tree *tree, const char *controller, const char *file, const char *text)
{
	AUTO(free) char *folder = mem_printf("%s/%s/us/abc", tree->path, controller);
	AUTO(free) char *path = mem_printf("%s/%s", folder, file);

	assert_int_equal(file_mkdir_all(folder, 0755), 0);
	assert_int_equal(file_write_atomic(AT_FDCWD, path, text, strlen(text), 0644, 0), 0);
}

static void mount(struct tree *tree, const char *controllers, const char *folder, bool v2)
{
	struct cgroup_hierarchy *one = &tree->host.list[tree->host.count++];

	one->controllers = mem_strdup(controllers);
	one->mount = mem_printf("%s/%s", tree->path, folder);
	one->v2 = v2;
	tree->host.mode = v2 ? CGROUP_V2 : CGROUP_V1;
}

static int set_up(void **state)
{
	struct tree *tree = mem_new0(struct tree);

	strcpy(tree->path, "/tmp/brume-usage-XXXXXX");
	assert_non_null(mkdtemp(tree->path));
	*state = tree;
	return 0;
}

static int tear_down(void **state)
{
	struct tree *tree = *state;

	cgroup_free(tree->parent);
	for (size_t i = 0; i < tree->host.count; i++) {
		free(tree->host.list[i].controllers);
		free(tree->host.list[i].mount);
	}
	file_remove_tree(AT_FDCWD, tree->path);
	free(tree);
	return 0;
}

static void version_2(void **state)
{
	struct tree *tree = *state;
	struct cgroup_usage usage;

	mount(tree, "cpu,io,memory,pids", "v2", true);
	put(tree, "v2", "cpu.stat",
	    "usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\nnr_periods 10\nnr_throttled 4\n"
	    "throttled_usec 77\n");
	put(tree, "v2", "memory.stat", "anon 1\nfile 2\ninactive_file 300\nactive_file 3\n");
	put(tree, "v2", "memory.current", "1000\n");
	put(tree, "v2", "memory.max", "max\n");
	put(tree, "v2", "io.stat",
	    "8:0 rbytes=100 wbytes=200 rios=3 wios=4 dbytes=9 dios=9\n"
	    "254:1 rbytes=1 wbytes=2 rios=1 wios=1 dbytes=0 dios=0\n");
	put(tree, "v2", "pids.current", "6\n");
	put(tree, "v2", "pids.max", "20\n");
	assert_int_equal(cgroup_open(&tree->host, "/us", false, &tree->parent), 0);
	assert_int_equal(cgroup_usage_read(tree->parent, "abc", &usage), 0);
	assert_int_equal(usage.cpu_ns, 5000000);
	assert_int_equal(usage.cpu_user_ns, 3000000);
	assert_int_equal(usage.cpu_throttled_periods, 4);
	assert_int_equal(usage.cpu_throttled_ns, 77000);
	assert_int_equal(cgroup_usage_memory(&usage), 700);
	assert_int_equal(usage.memory_limit_bytes, 0);
	assert_int_equal(usage.read_bytes, 101);
	assert_int_equal(usage.write_bytes, 202);
	assert_int_equal(usage.read_ops, 4);
	assert_int_equal(usage.pids, 6);
	assert_int_equal(usage.pids_limit, 20);
	assert_int_equal(cgroup_usage_read(tree->parent, "gone", &usage), -ENOENT);
}

static void version_1(void **state)
{
	struct tree *tree = *state;
	struct cgroup_usage usage;

	mount(tree, "cpu", "cpu", false);
	mount(tree, "cpuacct", "cpuacct", false);
	mount(tree, "memory", "memory", false);
	mount(tree, "blkio", "blkio", false);
	mount(tree, "pids", "pids", false);
	put(tree, "cpu", "cpu.stat", "nr_periods 3\nnr_throttled 2\nthrottled_time 123456\n");
	put(tree, "cpuacct", "cpuacct.usage", "9000\n");
	put(tree, "cpuacct", "cpuacct.usage_user", "5000\n");
	put(tree, "cpuacct", "cpuacct.usage_sys", "4000\n");
	put(tree, "memory", "memory.stat", "cache 5\ninactive_file 1\ntotal_inactive_file 50\n");
	put(tree, "memory", "memory.usage_in_bytes", "40\n");
	put(tree, "memory", "memory.limit_in_bytes", "9223372036854771712\n");
	put(tree, "blkio", "blkio.throttle.io_service_bytes_recursive",
	    "8:0 Read 10\n8:0 Write 20\n8:0 Sync 30\n8:16 Read 1\n8:16 Write 2\nTotal 33\n");
	put(tree, "blkio", "blkio.throttle.io_serviced_recursive", "8:0 Read 3\n8:0 Write 4\n");
	put(tree, "pids", "pids.current", "2\n");
	put(tree, "pids", "pids.max", "max\n");
	assert_int_equal(cgroup_open(&tree->host, "/us", false, &tree->parent), 0);
	assert_int_equal(cgroup_usage_read(tree->parent, "abc", &usage), 0);
	assert_int_equal(usage.cpu_ns, 9000);
	assert_int_equal(usage.cpu_system_ns, 4000);
	assert_int_equal(usage.cpu_throttled_ns, 123456);
	/* The two are not read at one instant: never below nothing. */
	assert_int_equal(cgroup_usage_memory(&usage), 0);
	assert_int_equal(usage.memory_limit_bytes, 0);
	assert_int_equal(usage.read_bytes, 11);
	assert_int_equal(usage.write_bytes, 22);
	assert_int_equal(usage.read_ops, 3);
	assert_int_equal(usage.write_ops, 4);
	assert_int_equal(usage.pids_limit, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(version_2, set_up, tear_down),
		cmocka_unit_test_setup_teardown(version_1, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
