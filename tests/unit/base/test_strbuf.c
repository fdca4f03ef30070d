#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/strbuf.h"

static void empty_is_a_string(void **state)
{
	AUTO(strbuf_done) struct strbuf buf = {};

	(void) state;
	assert_string_equal(strbuf_str(&buf), "");
	AUTO(free) char *taken = strbuf_take(&buf);
	assert_string_equal(taken, "");
	strbuf_consume(&buf, 0);
}

static void grows_and_consumes(void **state)
{
	AUTO(strbuf_done) struct strbuf buf = {};

	(void) state;
	for (int i = 0; i < 1000; i++)
		strbuf_printf(&buf, "%03d,", i);
	assert_int_equal(buf.size, 4000);
	assert_memory_equal(buf.data + 4 * 123, "123,", 4);
	strbuf_consume(&buf, 4 * 999);
	assert_string_equal(strbuf_str(&buf), "999,");
	strbuf_append(&buf, "\0x", 2);
	assert_int_equal(buf.size, 6);
	assert_int_equal(buf.data[6], '\0');
	strbuf_consume(&buf, 6);
	assert_int_equal(buf.size, 0);
	assert_string_equal(strbuf_str(&buf), "");
}

static void reserves_room(void **state)
{
	AUTO(strbuf_done) struct strbuf buf = {};

	(void) state;
	strbuf_puts(&buf, "ab");
	memset(strbuf_reserve(&buf, 5000), 'x', 5000);
	strbuf_grown(&buf, 3);
	assert_string_equal(strbuf_str(&buf), "abxxx");
	AUTO(free) char *taken = strbuf_take(&buf);
	assert_string_equal(taken, "abxxx");
	assert_null(buf.data);
}

/* A reader reserves, and the file is empty: what lay in that memory before is not its text. */
static void stays_terminated_when_nothing_comes(void **state)
{
	struct strbuf buf = {};

	(void) state;
	memset(strbuf_reserve(&buf, 100), 'x', 100);
	AUTO(free) char *text = strbuf_take(&buf);
	assert_string_equal(text, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty_is_a_string),
		cmocka_unit_test(grows_and_consumes),
		cmocka_unit_test(reserves_room),
		cmocka_unit_test(stays_terminated_when_nothing_comes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
