#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/strv.h"
#include "codec/uri.h"

static void decodes_paths_and_queries(void **state)
{
	AUTO(uri_done) struct uri uri = {};

	(void) state;
	assert_int_equal(uri_parse("/1.0/images/docker.io%2Flibrary%2fnginx:1?import=1&name=a+b%2B"
				   "&flag&project=x",
				   &uri, NULL),
			 0);
	assert_int_equal(strv_count(uri.segments), 3);
	assert_string_equal(uri.segments[0], "1.0");
	assert_string_equal(uri.segments[2], "docker.io/library/nginx:1");
	assert_string_equal(uri_query(&uri, "import"), "1");
	assert_string_equal(uri_query(&uri, "name"), "a b+");
	assert_string_equal(uri_query(&uri, "flag"), "");
	assert_null(uri_query(&uri, "proj"));
}

static void accepts_ends(void **state)
{
	AUTO(uri_done) struct uri root = {};
	AUTO(uri_done) struct uri slash = {};
	AUTO(uri_done) struct uri empty = {};

	(void) state;
	assert_int_equal(uri_parse("/", &root, NULL), 0);
	assert_int_equal(strv_count(root.segments), 0);
	assert_int_equal(uri_parse("/1.0/", &slash, NULL), 0);
	assert_int_equal(strv_count(slash.segments), 1);
	assert_int_equal(uri_parse("/1.0?&&", &empty, NULL), 0);
	assert_int_equal(strv_count(empty.query), 0);
}

static void refuses_tricks(void **state)
{
	static const char *const bad[] = {
		"",       "1.0",         "http://x/1.0", "//1.0",       "/a//b",  "/.",
		"/a/..",  "/a/%2e%2E/b", "/%",           "/%4",         "/%zz",   "/%00",
		"/a%0ab", "/\x01",       "/\xff",        "/%c3%28",     "/a?x=%", "/a?x=%00",
		"/a?=b",  "/a?x=1&x=2",  "/a?x%3dy=1",   "/a?\xc0\xaf",
	};
	struct error err = {};
	struct uri uri = {};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		assert_int_equal(uri_parse(bad[i], &uri, &err), -EINVAL);
		assert_memory_equal(err.msg, "URL: ", 5);
	}
	assert_null(uri.segments);
}

static void is_bounded(void **state)
{
	AUTO(free) char *text = malloc(URI_SIZE_MAX + 2);
	struct uri uri = {};

	(void) state;
	memset(text, 'a', URI_SIZE_MAX + 1);
	text[0] = '/';
	text[URI_SIZE_MAX + 1] = '\0';
	assert_int_equal(uri_parse(text, &uri, NULL), -ENAMETOOLONG);
	for (int i = 0; i < 2 * (URI_SEGMENTS_MAX + 1); i += 2)
		memcpy(text + i, "/a", 3);
	assert_int_equal(uri_parse(text, &uri, NULL), -ENAMETOOLONG);
	strcpy(text, "/?");
	for (int i = 0; i <= URI_QUERY_MAX; i++)
		sprintf(text + strlen(text), "a%d=&", i);
	assert_int_equal(uri_parse(text, &uri, NULL), -ENAMETOOLONG);
}

static void encodes_what_it_decodes(void **state)
{
	AUTO(free) char *encoded = uri_encode("reg:5000/a b@sha256:0~_-.é%");
	AUTO(free) char *path = NULL;
	AUTO(uri_done) struct uri uri = {};

	(void) state;
	assert_string_equal(encoded, "reg%3A5000%2Fa%20b%40sha256%3A0~_-.%C3%A9%25");
	assert_true(asprintf(&path, "/x/%s", encoded) > 0);
	assert_int_equal(uri_parse(path, &uri, NULL), 0);
	assert_string_equal(uri.segments[1], "reg:5000/a b@sha256:0~_-.é%");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decodes_paths_and_queries),
		cmocka_unit_test(accepts_ends),
		cmocka_unit_test(refuses_tricks),
		cmocka_unit_test(is_bounded),
		cmocka_unit_test(encodes_what_it_decodes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
