#include "kern/cgroup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static bool not_below_hidden(const char *mount, bool v2)
{
	(void) v2;
	return strncmp(mount, "/hidden", 7) != 0;
}

static struct cgroup_host *parse(const char *text)
{
	struct cgroup_host *host = calloc(1, sizeof(*host));

	assert_non_null(host);
	assert_int_equal(cgroup_host_parse(text, not_below_hidden, host), 0);
	return host;
}

static void test_hybrid(void **state)
{
	AUTO(cgroup_host_free)
	struct cgroup_host *host = parse(
		"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
		"32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
		"33 31 0:30 / /sys/fs/cgroup/my\\040set rw shared:5 - cgroup cgroup rw,cpuset,"
		"clone_children\n"
		"40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,"
		"name=systemd\n"
		"41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n"
		"42 31 0:29 / /again rw - cgroup cgroup rw,cpu,cpuacct\n");

	(void) state;
	assert_int_equal(host->mode, CGROUP_HYBRID);
	assert_int_equal(host->count, 4);
	assert_string_equal(host->list[0].controllers, "cpu,cpuacct");
	assert_string_equal(host->list[1].controllers, "cpuset");
	assert_string_equal(host->list[1].mount, "/sys/fs/cgroup/my set");
	assert_string_equal(host->list[2].controllers, "name=systemd");
	assert_true(host->list[3].v2);
}

static void test_pure(void **state)
{
	AUTO(cgroup_host_free)
	struct cgroup_host *v2 =
		parse("30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n");
	AUTO(cgroup_host_free) struct cgroup_host *none = parse("1 0 8:1 / / rw - ext4 x rw\n");
	AUTO(cgroup_host_free) struct cgroup_host *broken = parse("\n - cgroup \nx - cgroup y z\n");

	(void) state;
	assert_int_equal(v2->mode, CGROUP_V2);
	assert_int_equal(none->mode, CGROUP_NONE);
	assert_int_equal(broken->count, 0);
}

static void test_what_others_lie_over(void **state)
{
	AUTO(cgroup_host_free)
	struct cgroup_host *host = parse("32 31 0:29 / /hidden/cpu rw - cgroup cgroup rw,cpu\n"
					 "41 31 0:38 / /hidden/unified rw - cgroup2 cgroup2 rw\n"
					 "50 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");

	(void) state;
	assert_int_equal(host->mode, CGROUP_V2);
	assert_int_equal(host->count, 1);
	assert_string_equal(host->list[0].mount, "/sys/fs/cgroup");
}

static void test_paths(void **state)
{
	(void) state;
	assert_true(cgroup_path_good("/a"));
	assert_true(cgroup_path_good("/a//b/c.d/"));
	assert_false(cgroup_path_good("/"));
	assert_false(cgroup_path_good("//"));
	assert_false(cgroup_path_good("a"));
	assert_false(cgroup_path_good("/a/../b"));
	assert_false(cgroup_path_good("/./a"));
	assert_false(cgroup_path_good("/a\nb"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hybrid),
		cmocka_unit_test(test_pure),
		cmocka_unit_test(test_what_others_lie_over),
		cmocka_unit_test(test_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
