#include "container/process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

static const struct seccomp_profile no_profile;
static const struct oci_linux no_linux;

static void refused(const struct oci_process *process, const char *said)
{
	struct process_plan plan;
	struct error err = {};

	assert_true(process_plan_make(process, &no_linux, &no_profile, &plan, &err) < 0);
	if (!strstr(err.msg, said))
		fail_msg("\"%s\" does not say \"%s\"", err.msg, said);
}

static void test_good(void **state)
{
	const char *const caps[] = { "CAP_KILL", "CAP_CHOWN", NULL };
	struct oci_rlimit limit = { "RLIMIT_NOFILE", 1, 2 };
	struct oci_process process = {
		.has_capabilities = true,
		.capabilities = { [OCI_CAPS_PERMITTED] = caps, [OCI_CAPS_EFFECTIVE] = caps },
		.rlimits = &limit,
		.rlimit_count = 1,
		.scheduler = { .policy = "SCHED_BATCH" },
		.io_class = "IOPRIO_CLASS_IDLE",
		.io_priority = 3,
	};
	struct process_plan plan;

	(void) state;
	assert_int_equal(process_plan_make(&process, &no_linux, &no_profile, &plan, NULL), 0);
	assert_true(plan.caps.permitted == (1ULL << 5 | 1) && plan.caps.bounding == 0);
	assert_int_equal(plan.limits[0].limit.rlim_max, 2);
	assert_int_equal(plan.scheduler, 3);
	assert_int_equal(plan.io_priority, 3 << 13 | 3);
	process_plan_done(&plan);
}

/* The specification wants no failure for what cannot be granted. */
static void test_caps_left_out(void **state)
{
	const char *const unknown[] = { "CAP_FLY", "CAP_CHOWN", NULL };
	const char *const some[] = { "CAP_KILL", NULL };
	struct oci_process process = {
		.has_capabilities = true,
		.capabilities = { [OCI_CAPS_BOUNDING] = unknown,
				  [OCI_CAPS_EFFECTIVE] = some,
				  [OCI_CAPS_INHERITABLE] = some,
				  [OCI_CAPS_AMBIENT] = some },
	};
	struct process_plan plan;

	(void) state;
	assert_int_equal(process_plan_make(&process, &no_linux, &no_profile, &plan, NULL), 0);
	assert_true(plan.caps.bounding == 1 && plan.caps.effective == 0);
	assert_true(plan.caps.inheritable == 0 && plan.caps.ambient == 0);
	process_plan_done(&plan);
}

static void test_memory_policy_and_cpus(void **state)
{
	const char *const flags[] = { "MPOL_F_STATIC_NODES", NULL };
	struct oci_linux linux_ = { .memory_policy = { "MPOL_BIND", "0-1", flags } };
	struct oci_process process = { .affinity_initial = "0", .affinity_final = "1" };
	struct process_plan plan;
	struct error err = {};

	(void) state;
	assert_int_equal(process_plan_make(&process, &linux_, &no_profile, &plan, NULL), 0);
	assert_int_equal(plan.memory_mode, 2 | 1 << 15);
	assert_int_equal(plan.memory_nodes.words[0], 3);
	assert_int_equal(plan.cpus_initial.words[0], 1);
	assert_int_equal(plan.cpus_final.words[0], 2);
	process_plan_done(&plan);
	linux_.memory_policy.mode = "MPOL_X";
	assert_true(process_plan_make(&process, &linux_, &no_profile, &plan, &err) < 0);
	assert_non_null(strstr(err.msg, "MPOL_X"));
}

static void test_refusals(void **state)
{
	const char *const flags[] = { "SCHED_FLAG_X", NULL };
	struct oci_rlimit limit = { "RLIMIT_X", 1, 2 };

	(void) state;
	refused(&(struct oci_process){ .affinity_final = "1-" }, "execCPUAffinity.final");
	refused(&(struct oci_process){ .rlimits = &limit, .rlimit_count = 1 }, "RLIMIT_X");
	refused(&(struct oci_process){ .scheduler = { .policy = "X" } }, "SCHED_OTHER");
	refused(&(struct oci_process){ .scheduler = { .policy = "SCHED_RR", .flags = flags } },
		"SCHED_FLAG_X");
	refused(&(struct oci_process){ .io_class = "X" }, "IOPRIO_CLASS_BE");
	refused(&(struct oci_process){ .selinux_label = "x" }, "SELinux");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_caps_left_out),
		cmocka_unit_test(test_memory_policy_and_cpus),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
