#include "container/systemd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"

static void expect(const char *path, const char *slice, const char *unit)
{
	AUTO(free) char *got_slice = NULL;
	AUTO(free) char *got_unit = NULL;

	assert_int_equal(systemd_parse_path(path, "box", &got_slice, &got_unit, NULL), 0);
	assert_string_equal(got_slice, slice);
	assert_string_equal(got_unit, unit);
}

static void test_paths(void **state)
{
	(void) state;
	expect("machine.slice:libpod:abc", "machine.slice", "libpod-abc.scope");
	expect(":p:n", "", "p-n.scope");
	expect("a-b.slice::n", "a-b.slice", "n.scope");
	expect("", "", "brume-oci-box.scope");
	expect(NULL, "", "brume-oci-box.scope");
}

static void test_bad_paths(void **state)
{
	static const char *const bad[] = { "/a/b",         "a",
					   "a:b",          "x:p:n",
					   "a.slice:p:",   "a.slice:p:n:m",
					   ".slice:p:n/m", "a.slice:p:..",
					   "a.slice:p:n n" };

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		char *slice = NULL, *unit = NULL;
		struct error err = {};

		if (systemd_parse_path(bad[i], "box", &slice, &unit, &err) == 0)
			fail_msg("%s was taken", bad[i]);
		assert_non_null(strstr(err.msg, "cgroupsPath"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_bad_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
