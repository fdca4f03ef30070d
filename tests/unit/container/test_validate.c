#include "container/validate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

static void test_sysctl(void **state)
{
	struct oci_spec spec = {};
	struct error err = {};

	(void) state;
	assert_true(validate_sysctl(&spec, "net.ipv4.ip_forward", &err) < 0);
	assert_non_null(strstr(err.msg, "network"));
	spec.linux_.ns[OCI_NS_NETWORK].wanted = true;
	assert_int_equal(validate_sysctl(&spec, "net.ipv4.ip_forward", &err), 0);
	assert_int_equal(validate_sysctl(&spec, "net/ipv4/conf/eth0.5/forwarding", &err), 0);
	assert_true(validate_sysctl(&spec, "net/../kernel/panic", &err) < 0);
	assert_true(validate_sysctl(&spec, "kernel.msgmax", &err) < 0);
	spec.linux_.ns[OCI_NS_IPC].wanted = true;
	assert_int_equal(validate_sysctl(&spec, "kernel.msgmax", &err), 0);
	assert_int_equal(validate_sysctl(&spec, "fs.mqueue.msg_max", &err), 0);
	assert_true(validate_sysctl(&spec, "vm.swappiness", &err) < 0);
	assert_true(validate_sysctl(&spec, "", &err) < 0);
}

static void test_namespaces(void **state)
{
	struct oci_process process = {};
	struct oci_id_map map = { 0, 1, 2 };
	struct oci_spec spec = { .process = &process, .has_root = true };
	struct error err = {};

	(void) state;
	assert_true(validate_spec(&spec, &err) < 0);
	spec.linux_.ns[OCI_NS_MOUNT].wanted = true;
	assert_int_equal(validate_spec(&spec, &err), 0);
	spec.linux_.ns[OCI_NS_USER].wanted = true;
	assert_true(validate_spec(&spec, &err) < 0);
	spec.linux_.uid_maps = spec.linux_.gid_maps = (struct oci_id_maps){ &map, 1 };
	assert_int_equal(validate_spec(&spec, &err), 0);
	spec.linux_.ns[OCI_NS_USER].wanted = false;
	assert_true(validate_spec(&spec, &err) < 0);
	spec.linux_.uid_maps = spec.linux_.gid_maps = (struct oci_id_maps){};
	spec.hostname = "x";
	assert_true(validate_spec(&spec, &err) < 0);
	spec.linux_.ns[OCI_NS_UTS].wanted = true;
	assert_int_equal(validate_spec(&spec, &err), 0);
	spec.linux_.boottime.set = true;
	assert_true(validate_spec(&spec, &err) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sysctl),
		cmocka_unit_test(test_namespaces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
