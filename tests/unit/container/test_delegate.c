#include "container/delegate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_when(void **state)
{
	const char *const writable[] = { "nosuid", NULL }, *const readonly[] = { "ro", NULL };
	struct oci_mount mount = { .destination = "/sys/fs/cgroup", .source = "cgroup" };
	struct oci_spec spec = { .mounts = &mount, .mount_count = 1 };

	(void) state;
	mount.options = writable;
	assert_false(delegate_wanted(&spec));
	spec.linux_.ns[OCI_NS_CGROUP].wanted = true;
	assert_true(delegate_wanted(&spec));
	spec.linux_.ns[OCI_NS_CGROUP].path = "/proc/1/ns/cgroup";
	assert_false(delegate_wanted(&spec));
	spec.linux_.ns[OCI_NS_CGROUP].path = NULL;
	mount.options = readonly;
	assert_false(delegate_wanted(&spec));
	mount.options = NULL;
	mount.destination = "/sys";
	assert_false(delegate_wanted(&spec));
}

static void test_ids(void **state)
{
	struct oci_id_map list[] = { { 0, 100000, 10 }, { 1000, 5, 1 } };
	struct oci_id_maps maps = { list, 2 }, none = {};

	(void) state;
	assert_int_equal(delegate_host_id(&maps, 0), 100000);
	assert_int_equal(delegate_host_id(&maps, 9), 100009);
	assert_int_equal(delegate_host_id(&maps, 10), -1);
	assert_int_equal(delegate_host_id(&maps, 1000), 5);
	assert_int_equal(delegate_host_id(&none, 7), 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_when),
		cmocka_unit_test(test_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
