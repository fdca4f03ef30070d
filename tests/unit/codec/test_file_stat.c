#include "codec/file_stat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <sys/stat.h>

#include "base/cleanup.h"

static void name_is(const char *path, const char *name)
{
	AUTO(free) char *got = file_stat_name(path);

	assert_string_equal(got, name);
}

static void test_names(void **state)
{
	(void) state;
	name_is("/etc/passwd", "passwd");
	name_is("/etc/", "etc");
	name_is("/etc//./", "etc");
	name_is("/etc/.", "etc");
	name_is("/etc/.x", ".x");
	name_is("/etc/..", ".");
	name_is("/etc/...", "...");
	name_is("/", ".");
	name_is("//.", ".");
}

static void test_lines(void **state)
{
	struct stat st = { .st_mode = S_IFLNK | 04755,
			   .st_uid = 1,
			   .st_gid = 2,
			   .st_size = 3,
			   .st_mtim = { 1, 250000000 } };
	AUTO(free) char *link = file_stat_line("a\xff", &st, "/b");

	(void) state;
	assert_string_equal(link, "{\"gid\":2,\"link_target\":\"/b\",\"mode\":2541,\"mtime\":"
				  "\"1970-01-01T00:00:01.250Z\",\"name\":\"a?\",\"size_bytes\":3,"
				  "\"type\":\"symlink\",\"uid\":1}\n");
	st = (struct stat){ .st_mode = S_IFCHR };
	AUTO(free) char *device = file_stat_line("null", &st, NULL);
	assert_string_equal(device, "{\"gid\":0,\"mode\":0,\"name\":\"null\",\"size_bytes\":0,"
				    "\"type\":\"device\",\"uid\":0}\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
