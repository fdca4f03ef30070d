#include "container/process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

static const struct seccomp_profile no_profile;

static void refused(const struct oci_process *process, const char *said)
{
	struct process_plan plan;
	struct error err = {};

	assert_true(process_plan_make(process, &no_profile, &plan, &err) < 0);
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
	assert_int_equal(process_plan_make(&process, &no_profile, &plan, NULL), 0);
	assert_true(plan.caps.permitted == (1ULL << 5 | 1) && plan.caps.bounding == 0);
	assert_int_equal(plan.limits[0].limit.rlim_max, 2);
	assert_int_equal(plan.scheduler, 3);
	assert_int_equal(plan.io_priority, 3 << 13 | 3);
	process_plan_done(&plan);
}

static void test_refusals(void **state)
{
	const char *const unknown[] = { "CAP_FLY", NULL };
	const char *const some[] = { "CAP_KILL", NULL };
	const char *const flags[] = { "SCHED_FLAG_X", NULL };
	struct oci_rlimit limit = { "RLIMIT_X", 1, 2 };

	(void) state;
	refused(&(struct oci_process){ .has_capabilities = true,
				       .capabilities = { [OCI_CAPS_BOUNDING] = unknown } },
		"CAP_FLY");
	refused(&(struct oci_process){ .has_capabilities = true,
				       .capabilities = { [OCI_CAPS_EFFECTIVE] = some } },
		"permitted");
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
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
