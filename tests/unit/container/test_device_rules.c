#include "container/device_rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { M = CGROUP_DEVICE_MKNOD, R = CGROUP_DEVICE_READ, W = CGROUP_DEVICE_WRITE };

static unsigned int access_of(const struct device_policy *policy, char type, uint32_t major,
			      uint32_t minor)
{
	for (size_t i = 0; i < policy->count; i++) {
		const struct cgroup_device *one = &policy->list[i];

		if (one->type == type && !one->any_major && !one->any_minor &&
		    one->major == major && one->minor == minor)
			return one->access;
	}
	return 0;
}

static void test_without_a_list(void **state)
{
	const struct oci_device fuse = { 'c', "/dev/fuse", 10, 229, 0666, 0, 0 };
	const struct oci_resources resources = {};
	struct device_policy policy;

	(void) state;
	device_policy_make(&resources, &fuse, 1, &policy);
	assert_false(policy.allow);
	assert_int_equal(access_of(&policy, 'c', 10, 229), R | W | M);
	assert_int_equal(access_of(&policy, 'c', 1, 3), R | W | M);
	assert_int_equal(access_of(&policy, 'b', 8, 0), 0);
	device_policy_done(&policy);
}

static void test_merging(void **state)
{
	struct oci_device_rule rules[] = {
		{ .allow = false, .type = 'a', .access = "rwm" },
		{ .allow = true,
		  .type = 'b',
		  .major = { true, 8 },
		  .minor = { true, 0 },
		  .access = "r" },
		{ .allow = true,
		  .type = 'b',
		  .major = { true, 8 },
		  .minor = { true, 0 },
		  .access = "wm" },
		{ .allow = false,
		  .type = 'b',
		  .major = { true, 8 },
		  .minor = { true, 0 },
		  .access = "m" },
	};
	const struct oci_resources resources = { .devices = rules, .device_count = 4 };
	struct device_policy policy;

	(void) state;
	device_policy_make(&resources, NULL, 0, &policy);
	assert_int_equal(access_of(&policy, 'b', 8, 0), R | W);
	device_policy_done(&policy);
}

static void test_privileged(void **state)
{
	struct oci_device_rule rules[] = {
		{ .allow = false, .type = 'a', .access = "rwm" },
		{ .allow = true, .type = 'c', .major = { true, 4 }, .access = "r" },
		{ .allow = true, .type = 'a', .access = "rwm" },
		{ .allow = false,
		  .type = 'c',
		  .major = { true, 10 },
		  .minor = { true, 1 },
		  .access = "w" },
	};
	const struct oci_resources resources = { .devices = rules, .device_count = 4 };
	struct device_policy policy;

	(void) state;
	device_policy_make(&resources, NULL, 0, &policy);
	assert_true(policy.allow);
	assert_int_equal(policy.count, 1);
	assert_int_equal(access_of(&policy, 'c', 10, 1), W);
	device_policy_done(&policy);
}

static void test_part_of_all(void **state)
{
	struct oci_device_rule rules[] = { { .allow = true,
					     .type = 'a',
					     .major = { true, 9 },
					     .minor = { true, 2 },
					     .access = "r" } };
	const struct oci_resources resources = { .devices = rules, .device_count = 1 };
	struct device_policy policy;

	(void) state;
	device_policy_make(&resources, NULL, 0, &policy);
	assert_int_equal(access_of(&policy, 'c', 9, 2), R);
	assert_int_equal(access_of(&policy, 'b', 9, 2), R);
	device_policy_done(&policy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_a_list),
		cmocka_unit_test(test_merging),
		cmocka_unit_test(test_privileged),
		cmocka_unit_test(test_part_of_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
