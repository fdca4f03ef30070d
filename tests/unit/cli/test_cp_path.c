#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "cli/cp_path.h"

static void test_places(void **state)
{
	static const struct {
		const char *word, *instance, *path;
	} cases[] = {
		{ "web:/etc", "web", "/etc" }, { "web:etc", "web", "/etc" }, { "web:", "web", "/" },
		{ "web:/a:b", "web", "/a:b" }, { "./a:b", NULL, NULL },      { "/a:b", NULL, NULL },
		{ "dir/a:b", NULL, NULL },     { "-", NULL, NULL },          { "file", NULL, NULL },
		{ ":/x", NULL, NULL },         { "..:x", NULL, NULL },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		AUTO(cp_place_done) struct cp_place place = {};

		assert_int_equal(cp_place_parse(cases[i].word, &place), cases[i].instance != NULL);
		if (!cases[i].instance)
			continue;
		assert_string_equal(place.instance, cases[i].instance);
		assert_string_equal(place.path, cases[i].path);
	}
}

/* As docker cp has it. */
static void test_plan(void **state)
{
	static const struct {
		const char *source;
		enum cp_kind source_kind;
		const char *dest;
		enum cp_kind dest_kind;
		const char *folder, *name; /* folder NULL: refused */
	} cases[] = {
		{ "/etc/passwd", CP_FILE, "dir", CP_FOLDER, "dir", "passwd" },
		{ "/etc/passwd", CP_FILE, "dir/", CP_FOLDER, "dir/", "passwd" },
		{ "/etc/passwd", CP_FILE, "dir/copy", CP_NOTHING, "dir", "copy" },
		{ "/etc/passwd", CP_FILE, "copy", CP_FILE, ".", "copy" },
		{ "/etc/passwd", CP_FILE, "/copy", CP_NOTHING, "/", "copy" },
		{ "/etc/passwd", CP_FILE, "dir/", CP_NOTHING, NULL, NULL },
		{ "/etc/passwd", CP_FILE, "file/", CP_FILE, NULL, NULL },
		{ "/etc", CP_FOLDER, "dir", CP_FOLDER, "dir", "etc" },
		{ "/etc/", CP_FOLDER, "dir", CP_FOLDER, "dir", "etc" },
		{ "/etc/.", CP_FOLDER, "dir", CP_FOLDER, "dir", NULL },
		{ ".", CP_FOLDER, "/srv", CP_FOLDER, "/srv", NULL },
		{ "/", CP_FOLDER, "dir", CP_FOLDER, "dir", NULL },
		{ "/etc", CP_FOLDER, "a//new/", CP_NOTHING, "a", "new" },
		{ "/etc/.", CP_FOLDER, "new", CP_NOTHING, ".", "new" },
		{ "/etc", CP_FOLDER, "file", CP_FILE, NULL, NULL },
		{ "/etc", CP_FOLDER, "gone/..", CP_NOTHING, NULL, NULL },
		{ "/etc", CP_FOLDER, "/", CP_NOTHING, NULL, NULL },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		AUTO(cp_target_done) struct cp_target target = {};
		struct error err = {};
		int r = cp_plan(cases[i].source, cases[i].source_kind, cases[i].dest,
				cases[i].dest_kind, &target, &err);

		assert_int_equal(r == 0, cases[i].folder != NULL);
		if (r < 0) {
			assert_true(err.msg[0]);
			continue;
		}
		assert_string_equal(target.folder, cases[i].folder);
		if (cases[i].name)
			assert_string_equal(target.name, cases[i].name);
		else
			assert_null(target.name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_plan),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
