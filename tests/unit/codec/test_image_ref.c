#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "codec/image_ref.h"

#define DIGEST "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void normalizes(void **state)
{
	static const struct {
		const char *text, *registry, *normal;
	} cases[] = {
		{ "r.example/web", NULL, "r.example/web:latest" },
		{ "r.example/team/web:2", NULL, "r.example/team/web:2" },
		{ "localhost/web", NULL, "localhost/web:latest" },
		{ "127.0.0.1:5000/a_b/c--d__e.f:V1.0-x_y", NULL,
		  "127.0.0.1:5000/a_b/c--d__e.f:V1.0-x_y" },
		{ "[::1]:5000/web", NULL, "[::1]:5000/web:latest" },
		{ "r.example/web@" DIGEST, NULL, "r.example/web@" DIGEST },
		{ "r.example/web:2@" DIGEST, NULL, "r.example/web:2@" DIGEST },
		{ "web", "r.example:5000", "r.example:5000/web:latest" },
		{ "team/web:2", "r.example", "r.example/team/web:2" },
		{ "web", "r.example/library", "r.example/library/web:latest" },
		{ "web:5000", "r.example", "r.example/web:5000" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		AUTO(image_ref_done) struct image_ref ref = {};
		AUTO(image_ref_done) struct image_ref again = {};
		struct error err = {};

		assert_int_equal(image_ref_parse(cases[i].text, cases[i].registry, &ref, &err), 0);
		AUTO(free) char *text = image_ref_text(&ref);
		assert_string_equal(text, cases[i].normal);
		/* A normalized reference stays as it is. */
		assert_int_equal(image_ref_parse(text, NULL, &again, &err), 0);
		AUTO(free) char *same = image_ref_text(&again);
		assert_string_equal(same, text);
	}
}

static void refuses(void **state)
{
	static const struct {
		const char *text, *registry, *words;
	} cases[] = {
		{ "", NULL, "empty" },
		{ "web", NULL, "write HOST/web" },
		{ "team/web", "", "write HOST/team/web" },
		{ "r.example/", NULL, "bad image name" },
		{ "r.example/Web", NULL, "bad image name" },
		{ "r.example/a//b", NULL, "bad image name" },
		{ "r.example/a/../b", NULL, "bad image name" },
		{ "r.example/a.-b", NULL, "bad image name" },
		{ "Web", NULL, "bad image name" },
		{ "r.example/web:", NULL, "bad tag" },
		{ "r.example/web:-x", NULL, "bad tag" },
		{ "r.example/web:a b", NULL, "bad tag" },
		{ "r.example/web@sha256:12", NULL, "bad digest" },
		{ "r.example:0/web", NULL, "port" },
		{ "r.example:99999/web", NULL, "port" },
		{ "r.example:5x/web", NULL, "port" },
		{ "-r.example/web", NULL, "bad registry" },
		{ "r.exa mple/web", NULL, "bad registry" },
		{ "user@r.example/web", NULL, "bad digest" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct image_ref ref = {};
		struct error err = {};

		assert_int_equal(image_ref_parse(cases[i].text, cases[i].registry, &ref, &err),
				 -EINVAL);
		if (!strstr(err.msg, cases[i].words))
			fail_msg("'%s': %s", cases[i].text, err.msg);
		assert_null(ref.host);
	}
}

static void refuses_what_is_too_long(void **state)
{
	struct image_ref ref = {};
	char text[1024];

	(void) state;
	memset(text, 'a', sizeof(text));
	memcpy(text, "r.example/", 10);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(image_ref_parse(text, NULL, &ref, NULL), -EINVAL);
	text[300] = '\0';
	assert_int_equal(image_ref_parse(text, NULL, &ref, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(normalizes),
		cmocka_unit_test(refuses),
		cmocka_unit_test(refuses_what_is_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
