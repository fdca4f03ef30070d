#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "cli/log_range.h"

static void query_is(const char *tail, const char *since, const char *until, const char *want)
{
	char *query = NULL;

	assert_int_equal(log_range_query(&(struct log_range){ tail, since, until }, clock_system(),
					 &query, NULL),
			 0);
	assert_string_equal(query, want);
	free(query);
}

static void test_query(void **state)
{
	char *query = NULL;

	(void) state;
	query_is(NULL, NULL, NULL, "&tail=-1");
	query_is("all", NULL, NULL, "&tail=-1");
	query_is("0", "5", "7", "&tail=0&since_ms=5000&until_ms=7000");
	assert_true(log_range_query(&(struct log_range){ "-1", NULL, NULL }, clock_system(), &query,
				    NULL) < 0);
	assert_true(log_range_query(&(struct log_range){ NULL, "soon", NULL }, clock_system(),
				    &query, NULL) < 0);
	assert_null(query);
}

static void rest_is(const char *query, const char *cursor, const char *want)
{
	char *rest = log_range_rest(query, cursor);

	assert_string_equal(rest, want);
	free(rest);
}

/* Who comes back goes on where it was, and still only as far as it was asked for. */
static void test_rest(void **state)
{
	(void) state;
	rest_is("&tail=3&until_ms=7", NULL, "&tail=3&until_ms=7");
	rest_is("&tail=3&since_ms=5&until_ms=7", "c-1-0", "&cursor=c-1-0&until_ms=7");
	rest_is("&tail=3&since_ms=5", "c-1-0", "&cursor=c-1-0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_query),
		cmocka_unit_test(test_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
