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

static void assert_becomes(const char *text, size_t size, const char *wanted)
{
	AUTO(strbuf_done) struct strbuf out = {};

	strbuf_put_printable(&out, text, size);
	assert_string_equal(strbuf_str(&out), wanted);
}

static void only_printable_text_is_left(void **state)
{
	(void) state;
	assert_becomes("sh -c 'x'", 9, "sh -c 'x'");
	assert_becomes("\x1b[2J\n\x7f", 6, "\\x1b[2J\\x0a\\x7f");
	assert_becomes("a\\x1b", 5, "a\\\\x1b");
	assert_becomes("é€😀", strlen("é€😀"), "é€😀");
	/* Cut, overlong, surrogate, too high, stray; and control characters beyond ASCII. */
	assert_becomes("\xc3", 1, "\\xc3");
	assert_becomes("\xe2\x82", 2, "\\xe2\\x82");
	assert_becomes("\xc0\x80", 2, "\\xc0\\x80");
	assert_becomes("\xe0\x80\x80", 3, "\\xe0\\x80\\x80");
	assert_becomes("\xed\xa0\x80", 3, "\\xed\\xa0\\x80");
	assert_becomes("\xf4\x90\x80\x80", 4, "\\xf4\\x90\\x80\\x80");
	assert_becomes("\xf5\x80\x80\x80", 4, "\\xf5\\x80\\x80\\x80");
	assert_becomes("\x80", 1, "\\x80");
	assert_becomes("\xc2\x9b", 2, "\\xc2\\x9b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_printable_text_is_left),
		cmocka_unit_test(empty_is_a_string),
		cmocka_unit_test(grows_and_consumes),
		cmocka_unit_test(reserves_room),
		cmocka_unit_test(stays_terminated_when_nothing_comes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
