#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "codec/http_status.h"

static int parse(const char *text, unsigned int *ret)
{
	return http_status_parse(text, strlen(text), ret);
}

static void test_good_ones(void **state)
{
	unsigned int number = 0;

	(void) state;
	assert_int_equal(parse("HTTP/1.1 200 OK\r\n", &number), 0);
	assert_int_equal(number, 200);
	assert_int_equal(parse("HTTP/1.0 503\r\n", &number), 0);
	assert_int_equal(number, 503);
	assert_int_equal(parse("HTTP/1.1 301\n", &number), 0);
	assert_int_equal(number, 301);
}

static void test_each_beginning_needs_more(void **state)
{
	static const char text[] = "HTTP/1.1 204 ";
	unsigned int number = 7;

	(void) state;
	for (size_t i = 0; i < strlen(text); i++)
		assert_int_equal(http_status_parse(text, i, &number), -EAGAIN);
	assert_int_equal(number, 7);
	assert_int_equal(parse(text, &number), 0);
	assert_int_equal(number, 204);
}

static void test_bad_ones(void **state)
{
	static const char *const bad[] = { "x",
					   "HTTP/2.0 200 ",
					   "http/1.1 200 ",
					   "HTTP/1.1  200",
					   "HTTP/1.1 2x0 ",
					   "HTTP/1.1 2000 ",
					   "HTTP/1.1 099 ",
					   "HTTP/1.1 600 ",
					   "HTTP/1.x 200 ",
					   "\r\nHTTP/1.1 200 " };
	unsigned int number = 7;

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		assert_int_equal(parse(bad[i], &number), -EBADMSG);
	assert_int_equal(number, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_ones),
		cmocka_unit_test(test_each_beginning_needs_more),
		cmocka_unit_test(test_bad_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
