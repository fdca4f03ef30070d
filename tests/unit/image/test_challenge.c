#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "image/challenge_internal.h"

static void reads_challenges(void **state)
{
	AUTO(challenge_done) struct challenge bearer = {}, basic = {}, odd = {};

	(void) state;
	challenge_parse("Bearer realm=\"https://auth.example/token\",service=\"reg \\\"x\\\"\", "
			"scope=\"repository:a/b:pull,push\"",
			&bearer);
	assert_int_equal(bearer.kind, CHALLENGE_BEARER);
	assert_string_equal(bearer.realm, "https://auth.example/token");
	assert_string_equal(bearer.service, "reg \"x\"");
	assert_string_equal(bearer.scope, "repository:a/b:pull,push");
	challenge_parse("basic realm=\"x\"", &basic);
	assert_int_equal(basic.kind, CHALLENGE_BASIC);
	challenge_parse("BEARER other=1, REALM=http://x/y , scope", &odd);
	assert_int_equal(odd.kind, CHALLENGE_BEARER);
	assert_string_equal(odd.realm, "http://x/y");
	assert_null(odd.scope);
}

static void takes_nonsense_for_none(void **state)
{
	static const char *const headers[] = {
		"",         " ",        "Digest realm=\"x\"", "Bearer", "Bearer service=\"x\"",
		"Bearer =", "Bearer \""
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(headers); i++) {
		AUTO(challenge_done) struct challenge challenge = {};

		challenge_parse(headers[i], &challenge);
		assert_int_equal(challenge.kind, CHALLENGE_NONE);
		assert_null(challenge.realm);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_challenges),
		cmocka_unit_test(takes_nonsense_for_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
