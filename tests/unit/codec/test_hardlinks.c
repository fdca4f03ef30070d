#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "codec/hardlinks.h"

static struct stat file(dev_t dev, ino_t ino)
{
	return (struct stat){
		.st_mode = S_IFREG | 0644, .st_nlink = 2, .st_dev = dev, .st_ino = ino
	};
}

static void the_first_name_is_kept(void **state)
{
	AUTO(hardlinks_done) struct hardlinks links = { .count_max = 10 };
	struct stat one = file(1, 7), other_disk = file(2, 7);
	char name[] = "a";

	(void) state;
	assert_null(hardlinks_first(&links, &one, name));
	name[0] = 'x';
	assert_string_equal(hardlinks_first(&links, &one, "b"), "a");
	assert_string_equal(hardlinks_first(&links, &one, "c"), "a");
	assert_null(hardlinks_first(&links, &other_disk, "d"));
	assert_string_equal(hardlinks_first(&links, &other_disk, "e"), "d");
}

static void what_has_one_name_is_not_kept(void **state)
{
	AUTO(hardlinks_done) struct hardlinks links = { .count_max = 10 };
	struct stat alone = file(1, 7), folder = file(1, 8);

	(void) state;
	alone.st_nlink = 1;
	folder.st_mode = S_IFDIR | 0755;
	for (int i = 0; i < 2; i++) {
		assert_null(hardlinks_first(&links, &alone, "a"));
		assert_null(hardlinks_first(&links, &folder, "b"));
	}
	assert_int_equal(links.count, 0);
}

static void the_limit_holds(void **state)
{
	AUTO(hardlinks_done) struct hardlinks links = { .count_max = 1 };
	struct stat first = file(1, 1), second = file(1, 2);

	(void) state;
	assert_null(hardlinks_first(&links, &first, "a"));
	assert_null(hardlinks_first(&links, &second, "b"));
	assert_null(hardlinks_first(&links, &second, "c"));
	assert_int_equal(links.count, 1);
	/* What is known stays known. */
	assert_string_equal(hardlinks_first(&links, &first, "d"), "a");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_name_is_kept),
		cmocka_unit_test(what_has_one_name_is_not_kept),
		cmocka_unit_test(the_limit_holds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
