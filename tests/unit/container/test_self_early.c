#include "container/self_early.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void verbs_that_enter_a_container(void **state)
{
	static const char *const yes[][5] = { { "run", "x" },
					      { "--root", "/r", "create", "x" },
					      { "exec", "x", "true" } };
	static const char *const no[][5] = { {},
					     { "state", "x" },
					     { "--root", "/r", "delete", "runner" },
					     { "", "exe", "execute", "crea" } };

	(void) state;
	for (size_t i = 0; i < sizeof(yes) / sizeof(*yes); i++)
		assert_true(self_early_wanted((char *const *) yes[i]));
	for (size_t i = 0; i < sizeof(no) / sizeof(*no); i++)
		assert_false(self_early_wanted((char *const *) no[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(verbs_that_enter_a_container),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
