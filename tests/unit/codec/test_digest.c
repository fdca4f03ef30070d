#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "codec/digest_stream.h"

#define EMPTY256 "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define ABC256 "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static void reads_what_it_writes(void **state)
{
	struct digest digest, other = {};
	char text[DIGEST_TEXT_SIZE];

	(void) state;
	assert_int_equal(digest_parse(ABC256, &digest, NULL), 0);
	digest_format(&digest, text);
	assert_string_equal(text, ABC256);
	digest_hex(&digest, text);
	assert_string_equal(text, &ABC256[7]);
	assert_true(digest_equal(&digest, &digest));
	assert_false(digest_equal(&digest, &other));
	digest_format(&other, text);
	assert_string_equal(text, "");
}

static void refuses_everything_else(void **state)
{
	static const char *const bad[] = {
		"",
		"sha256:",
		"sha256:abc",
		"md5:d41d8cd98f00b204e9800998ecf8427e",
		"sha256:E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		EMPTY256 "0",
		"sha256:../../../../../../../../../../../../../../../../../etc/passwd....",
		"sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	};
	struct digest digest = {};
	struct error err = {};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		assert_int_equal(digest_parse(bad[i], &digest, &err), -EINVAL);
		assert_non_null(strstr(err.msg, "bad digest"));
		assert_int_equal(digest.kind, DIGEST_NONE);
	}
	assert_int_equal(digest_parse(NULL, &digest, &err), -EINVAL);
}

static void computes(void **state)
{
	struct digest_stream *stream = digest_stream_new(DIGEST_SHA256);
	struct digest digest;
	char text[DIGEST_TEXT_SIZE];

	(void) state;
	digest_stream_add(stream, "a", 1);
	digest_stream_add(stream, "bc", 2);
	digest_stream_end(stream, &digest);
	digest_format(&digest, text);
	assert_string_equal(text, ABC256);
	/* The stream begins again. */
	digest_stream_end(stream, &digest);
	digest_format(&digest, text);
	assert_string_equal(text, EMPTY256);
	digest_stream_free(stream);
	digest_compute(DIGEST_SHA512, "abc", 3, &digest);
	digest_format(&digest, text);
	assert_memory_equal(text, "sha512:ddaf35a193617aba", 23);
	assert_int_equal(strlen(text), 7 + 128);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_it_writes),
		cmocka_unit_test(refuses_everything_else),
		cmocka_unit_test(computes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
