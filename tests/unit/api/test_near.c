/* Near misses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "api/near.h"
#include "base/cleanup.h"

static void distances(void **state)
{
	char long_word[NEAR_WORD_MAX + 2];

	(void) state;
	assert_int_equal(near_distance("", ""), 0);
	assert_int_equal(near_distance("", "abc"), 3);
	assert_int_equal(near_distance("kitten", "sitting"), 3);
	assert_int_equal(near_distance("web", "web"), 0);
	memset(long_word, 'a', sizeof(long_word));
	long_word[NEAR_WORD_MAX + 1] = '\0';
	assert_int_equal(near_distance(long_word, "a"), UINT_MAX);
	long_word[NEAR_WORD_MAX] = '\0';
	assert_int_equal(near_distance(long_word, long_word), 0);
}

static void hints(void **state)
{
	struct near near = { .wanted = "wbe" };
	struct near many = { .wanted = "instance-1" };
	struct near nothing = { .wanted = "web" };

	(void) state;
	near_offer(&near, "web");
	near_offer(&near, "wb");
	near_offer(&near, "database");
	AUTO(free) char *hint = near_hint(&near);
	assert_string_equal(hint, "did you mean 'wb'?");

	near_offer(&many, "instance-22");
	near_offer(&many, "instance-2");
	near_offer(&many, "instance-2");
	near_offer(&many, "nstance-1");
	near_offer(&many, "instance-10");
	AUTO(free) char *several = near_hint(&many);
	assert_string_equal(several, "did you mean 'instance-2', 'nstance-1' or 'instance-10'?");
	assert_null(near_hint(&nothing));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(distances),
		cmocka_unit_test(hints),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
