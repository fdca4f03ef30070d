#include "agent/seccomp_default.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/capname.h"
#include "base/cleanup.h"
#include "base/json.h"

/* How many rules of this action have the name, with or without conditions on arguments. */
static int count(json_t *profile, const char *name, const char *action, bool with_args)
{
	json_t *rule, *one;
	size_t i, j;
	int found = 0;

	json_array_foreach(json_object_get(profile, "syscalls"), i, rule)
	{
		if (strcmp(json_string_value(json_object_get(rule, "action")), action) != 0 ||
		    (json_object_get(rule, "args") != NULL) != with_args)
			continue;
		json_array_foreach(json_object_get(rule, "names"), j, one) found +=
			strcmp(json_string_value(one), name) == 0;
	}
	return found;
}

static uint64_t bit(const char *name)
{
	return UINT64_C(1) << capname_number(name);
}

#define ALLOWED(profile, name) count(profile, name, "SCMP_ACT_ALLOW", false)
#define REFUSED(profile, name) count(profile, name, "SCMP_ACT_ERRNO", false)

static void test_default(void **state)
{
	AUTO(json_decref) json_t *profile = seccomp_default(bit("CAP_SYS_CHROOT"));
	static const char *const refused[] = { "bpf",   "io_uring_setup",   "keyctl",
					       "mount", "perf_event_open",  "userfaultfd",
					       "setns", "open_by_handle_at" };

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(refused); i++) {
		assert_int_equal(REFUSED(profile, refused[i]), 1);
		assert_int_equal(ALLOWED(profile, refused[i]), 0);
	}
	assert_int_equal(ALLOWED(profile, "chroot"), 1);
	assert_int_equal(REFUSED(profile, "chroot"), 0);
	assert_int_equal(ALLOWED(profile, "clone"), 0);
	assert_int_equal(count(profile, "clone", "SCMP_ACT_ALLOW", true), 1);
	assert_int_equal(REFUSED(profile, "clone3"), 1);
	assert_int_equal(ALLOWED(profile, "socket"), 0);
	assert_int_equal(count(profile, "socket", "SCMP_ACT_ALLOW", true), 5);
	assert_string_equal(json_string_value(json_object_get(profile, "defaultAction")),
			    "SCMP_ACT_ERRNO");
}

static void test_capabilities_open_what_they_are_for(void **state)
{
	AUTO(json_decref) json_t *admin = seccomp_default(bit("CAP_SYS_ADMIN"));
	AUTO(json_decref) json_t *some = seccomp_default(bit("CAP_BPF") | bit("CAP_SYS_TIME"));
	AUTO(json_decref) json_t *all = seccomp_default(UINT64_MAX);

	(void) state;
	assert_int_equal(ALLOWED(admin, "mount"), 1);
	assert_int_equal(ALLOWED(admin, "bpf"), 1);
	assert_int_equal(ALLOWED(admin, "clone"), 1);
	assert_int_equal(count(admin, "clone", "SCMP_ACT_ALLOW", true), 0);
	assert_int_equal(REFUSED(admin, "clone3"), 0);
	assert_int_equal(REFUSED(admin, "chroot"), 1);
	assert_int_equal(ALLOWED(some, "bpf"), 1);
	assert_int_equal(REFUSED(some, "bpf"), 0);
	assert_int_equal(ALLOWED(some, "settimeofday"), 1);
	assert_int_equal(REFUSED(some, "mount"), 1);
	/* Not for any capability. */
	assert_int_equal(REFUSED(all, "keyctl"), 1);
	assert_int_equal(ALLOWED(all, "reboot"), 1);
}

/* A name twice would be two answers. */
static void test_names_are_unique(void **state)
{
	static const uint64_t sets[] = { 0, 1 << 18, 1 << 21, UINT64_MAX };

	(void) state;
	for (size_t n = 0; n < ARRAY_COUNT(sets); n++) {
		AUTO(json_decref) json_t *profile = seccomp_default(sets[n]);
		json_t *rule, *one;
		size_t i, j;

		json_array_foreach(json_object_get(profile, "syscalls"), i, rule)
		{
			json_array_foreach(json_object_get(rule, "names"), j, one)
			{
				const char *name = json_string_value(one);

				if (!json_object_get(rule, "args"))
					assert_int_equal(
						ALLOWED(profile, name) + REFUSED(profile, name), 1);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_default),
		cmocka_unit_test(test_capabilities_open_what_they_are_for),
		cmocka_unit_test(test_names_are_unique),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
