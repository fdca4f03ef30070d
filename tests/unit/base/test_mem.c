#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/mem.h"

/* An allocation that cannot be is asked for on purpose: under ASan, too, it gives NULL. */
const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static void strings(void **state)
{
	AUTO(free) char *s = mem_strdup("abc");

	(void) state;
	assert_null(mem_strdup(NULL));
	assert_null(mem_strndup(NULL, 3));
	mem_replace(&s, "other");
	assert_string_equal(s, "other");
	mem_replace(&s, s + 2);
	assert_string_equal(s, "her");
	mem_replace(&s, NULL);
	assert_null(s);
	AUTO(free) char *cut = mem_strndup("abcdef", 2);
	assert_string_equal(cut, "ab");
	AUTO(free) char *formatted = mem_printf("%d-%s", 5, "x");
	assert_string_equal(formatted, "5-x");
}

static void zeroed(void **state)
{
	AUTO(free) int *numbers = mem_new0_array(int, 50);
	AUTO(free) char *none = mem_zalloc(0);

	(void) state;
	for (int i = 0; i < 50; i++)
		assert_int_equal(numbers[i], 0);
	assert_non_null(none);
	assert_null(mem_try_alloc(SIZE_MAX / 2));
}

static void taking_leaves_nothing(void **state)
{
	char *p = mem_strdup("x");
	int fd = 7;

	(void) state;
	AUTO(free) char *taken = TAKE_PTR(p);
	assert_null(p);
	assert_string_equal(taken, "x");
	assert_int_equal(TAKE_FD(fd), 7);
	assert_int_equal(fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(strings),
		cmocka_unit_test(zeroed),
		cmocka_unit_test(taking_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
