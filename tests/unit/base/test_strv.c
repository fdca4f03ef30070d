#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/mem.h"
#include "base/strv.h"

static void null_is_empty(void **state)
{
	char *none[] = { NULL };

	(void) state;
	assert_int_equal(strv_count(NULL), 0);
	assert_null(strv_copy(NULL));
	assert_true(strv_equal(NULL, none));
	assert_null(strv_env_get(NULL, "A"));
	strv_free(NULL);
}

static void appends_and_copies(void **state)
{
	AUTO(strv_free) char **strv = NULL;

	(void) state;
	strv_append(&strv, "a");
	strv_append_take(&strv, mem_strdup("b"));
	AUTO(strv_free) char **copy = strv_copy(strv);
	assert_int_equal(strv_count(copy), 2);
	assert_true(strv_equal(strv, copy));
	strv_append(&copy, "c");
	assert_false(strv_equal(strv, copy));
	assert_null(copy[3]);
}

static void environment(void **state)
{
	AUTO(strv_free) char **env = NULL;

	(void) state;
	strv_env_set(&env, "PATH", "/bin");
	strv_env_set(&env, "PATHS", "x");
	strv_env_set(&env, "PATH", "/usr/bin");
	strv_env_set(&env, "EMPTY", "");
	assert_int_equal(strv_count(env), 3);
	assert_string_equal(strv_env_get(env, "PATH"), "/usr/bin");
	assert_string_equal(strv_env_get(env, "PATHS"), "x");
	assert_string_equal(strv_env_get(env, "EMPTY"), "");
	assert_null(strv_env_get(env, "PAT"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(null_is_empty),
		cmocka_unit_test(appends_and_copies),
		cmocka_unit_test(environment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
