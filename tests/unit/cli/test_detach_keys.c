#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/detach_keys.h"

static void parses_keys(void **state)
{
	struct detach_keys keys;

	(void) state;
	assert_int_equal(detach_keys_parse("ctrl-p,ctrl-q", &keys, NULL), 0);
	assert_int_equal(keys.count, 2);
	assert_memory_equal(keys.keys, "\x10\x11", 2);
	assert_int_equal(detach_keys_parse("ctrl-],a,ctrl-A", &keys, NULL), 0);
	assert_memory_equal(keys.keys, "\x1d\x61\x01", 3);
	assert_int_equal(detach_keys_parse("", &keys, NULL), 0);
	assert_int_equal(keys.count, 0);
}

static void refuses_the_rest(void **state)
{
	static const char *const texts[] = { ",",      "a,",   "ab", "ctrl-", "ctrl-pq",
					     "ctrl-1", "\x10", "é",  "a,,b",  "a,b,c,d,e,f,g,h,i" };
	struct detach_keys keys = { .count = 7 };

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(texts); i++)
		assert_int_equal(detach_keys_parse(texts[i], &keys, NULL), -EINVAL);
	assert_int_equal(keys.count, 7);
}

/* Fed byte by byte, and at once: what goes on, and whether it left. */
static void expect(const char *keys_text, const char *typed, const char *want, bool leaves)
{
	for (int at_once = 0; at_once < 2; at_once++) {
		AUTO(strbuf_done) struct strbuf out = {};
		struct detach_keys keys;
		bool left = false;

		assert_int_equal(detach_keys_parse(keys_text, &keys, NULL), 0);
		if (at_once)
			left = detach_keys_feed(&keys, typed, strlen(typed), &out);
		for (const char *p = typed; *p && !left && !at_once; p++)
			left = detach_keys_feed(&keys, p, 1, &out);
		assert_string_equal(strbuf_str(&out), want);
		assert_int_equal(left, leaves);
	}
}

static void finds_the_sequence(void **state)
{
	(void) state;
	expect("ctrl-p,ctrl-q", "ls\r", "ls\r", false);
	expect("ctrl-p,ctrl-q", "ls\x10\x11 more", "ls", true);
	expect("ctrl-p,ctrl-q", "\x10x", "\x10x", false);
	expect("ctrl-p,ctrl-q", "\x10\x10\x11", "\x10", true);
	/* The first one is held back until it is known what follows. */
	expect("ctrl-p,ctrl-q", "a\x10", "a", false);
	expect("a,a,b", "aaab", "a", true);
	expect("a,b,a,c", "ababac", "ab", true);
	expect("a,b,a,c", "abab!", "abab!", false);
	expect("", "\x10\x11", "\x10\x11", false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_keys),
		cmocka_unit_test(refuses_the_rest),
		cmocka_unit_test(finds_the_sequence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
