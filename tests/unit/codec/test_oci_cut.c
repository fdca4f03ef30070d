#include "codec/oci_cut.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"

static void test_found(void **state)
{
	static const char *const cases[][2] = {
		{ "{\"linux\":{\"seccomp\":{}}}", "{}" },
		{ " { \"a\" : [1, {\"linux\": 2}] , \"linux\" : { \"x\":\"\\\"}\", \"seccomp\" : "
		  "{\"b\":[\"]\"]} } }",
		  "{\"b\":[\"]\"]}" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		size_t start = 0, size = 0;

		assert_true(oci_cut_seccomp(cases[i][0], strlen(cases[i][0]), &start, &size));
		assert_int_equal(size, strlen(cases[i][1]));
		assert_memory_equal(cases[i][0] + start, cases[i][1], size);
	}
}

static void test_not_found(void **state)
{
	static const char *const cases[] = {
		"",
		"{",
		"[]",
		"{}",
		"{\"linux\":1}",
		"{\"linux\":{}}",
		"{\"linux\":{\"seccomp\":1}}",
		"{\"linux\":{\"seccomp\":{",
		"{\"linux\":{\"seccomp\":{\"",
		"{\"linux\":{\"seccomp\":{\"\\",
		"{\"linux\"",
		"{\"linux\\",
		"{\"a\":{\"seccomp\":{}}}",
		"{\"linux\":{\"sec\\u0063omp\":{}}}",
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		size_t start, size;

		assert_false(oci_cut_seccomp(cases[i], strlen(cases[i]), &start, &size));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_found),
		cmocka_unit_test(test_not_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
