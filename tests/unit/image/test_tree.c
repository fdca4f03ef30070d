#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "image/tree_internal.h"

struct fixture {
	char dir[64];
	int fd;
	struct tree_limits limits;
	struct tree *tree;
	struct error err;
};

static const struct tree_attr plain = { .mode = 0644 };

static int setup(void **state)
{
	struct fixture *fixture = mem_new0(struct fixture);

	strcpy(fixture->dir, "/tmp/brume-tree-XXXXXX");
	assert_non_null(mkdtemp(fixture->dir));
	fixture->fd = open(fixture->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fixture->limits.bytes_max = 1000;
	fixture->limits.inodes_max = 1000;
	fixture->tree = tree_new(fixture->fd, &fixture->limits);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	tree_free(fixture->tree);
	close(fixture->fd);
	assert_int_equal(file_remove_tree(AT_FDCWD, fixture->dir), 0);
	free(fixture);
	return 0;
}

static int touch(struct fixture *fixture, const char *name)
{
	AUTO(fd_close) int fd = -1;
	int r = tree_create(fixture->tree, name, &fd, &fixture->err);

	return r < 0 ? r : tree_finish_file(fd, &(struct tree_attr){ .mode = 0644, .uid = 0 });
}

static void cleans_names(void **state)
{
	static const char *const names[][2] = {
		{ "a", "a" },     { "./a", "a" },
		{ "/a", "a" },    { "//a//b///", "a/b" },
		{ "./", "" },     { ".", "" },
		{ "", "" },       { "a/./b", "a/b" },
		{ "...", "..." }, { "a..b/..c", "a..b/..c" },
	};
	static const char *const bad[] = { "..", "../a", "a/..", "a/../b", "/..", "./.." };
	char *clean = NULL;

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		assert_int_equal(tree_clean_name(names[i][0], &clean, NULL), 0);
		assert_string_equal(clean, names[i][1]);
		free(clean);
		clean = NULL;
	}
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		assert_int_equal(tree_clean_name(bad[i], &clean, NULL), -EINVAL);
	assert_null(clean);
}

static void goes_through_no_link(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(symlinkat("/", fixture->fd, "out"), 0);
	assert_int_equal(symlinkat("..", fixture->fd, "up"), 0);
	assert_int_equal(touch(fixture, "out/tmp/brume-tree-escaped"), -EINVAL);
	assert_non_null(strstr(fixture->err.msg, "'out', which is a symbolic link"));
	assert_int_equal(touch(fixture, "up/brume-tree-escaped"), -EINVAL);
	assert_int_equal(access("/tmp/brume-tree-escaped", F_OK), -1);
	assert_int_equal(tree_link(fixture->tree, "stolen", "out/etc/passwd", &fixture->err),
			 -EINVAL);
	/* The link itself may be replaced. */
	assert_int_equal(touch(fixture, "out"), 0);
}

static void a_folder_that_is_replaced_is_forgotten(void **state)
{
	struct fixture *fixture = *state;
	bool replaced;
	int fd;

	assert_int_equal(tree_mkdir(fixture->tree, "a/b", &plain, &fd, &replaced, NULL), 0);
	assert_int_equal(touch(fixture, "a/b/c"), 0);
	assert_int_equal(tree_symlink(fixture->tree, "a", "/", &plain, NULL), 0);
	assert_int_equal(touch(fixture, "a/b/d"), -EINVAL);
	assert_int_equal(touch(fixture, "a/tmp"), -EINVAL);
}

static void links_stay_inside(void **state)
{
	struct fixture *fixture = *state;
	struct stat one, two;

	assert_int_equal(touch(fixture, "d/one"), 0);
	assert_int_equal(tree_link(fixture->tree, "two", "d/one", NULL), 0);
	assert_int_equal(tree_link(fixture->tree, "two", "two", NULL), 0);
	assert_int_equal(fstatat(fixture->fd, "d/one", &one, 0), 0);
	assert_int_equal(fstatat(fixture->fd, "two", &two, 0), 0);
	assert_true(one.st_ino == two.st_ino);
	assert_int_equal(tree_link(fixture->tree, "x", "missing", &fixture->err), -EINVAL);
	assert_non_null(strstr(fixture->err.msg, "not in this layer"));
	assert_true(tree_link(fixture->tree, "x", "missing/y", &fixture->err) < 0);
	assert_int_equal(tree_link(fixture->tree, "x", "", &fixture->err), -EINVAL);
}

static void counts(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(tree_charge(fixture->tree, 999, NULL), 0);
	assert_int_equal(tree_charge(fixture->tree, 2, &fixture->err), -EDQUOT);
	fixture->limits.inodes_max = 3;
	assert_int_equal(touch(fixture, "a/b"), 0);
	assert_int_equal(touch(fixture, "c"), 0);
	assert_int_equal(touch(fixture, "d"), -EDQUOT);
}

static void keeps_more_folders_than_it_holds_open(void **state)
{
	struct fixture *fixture = *state;
	bool replaced;

	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 200; i++) {
			const struct tree_attr attr = { .mode = 0700,
							.mtime = { .tv_sec = 1000 + i } };
			AUTO(free) char *name = mem_printf("x/y/%d", i);
			AUTO(free) char *file = mem_printf("x/y/%d/f%d", i, round);
			int fd;

			assert_int_equal(
				tree_mkdir(fixture->tree, name, &attr, &fd, &replaced, NULL), 0);
			assert_int_equal(touch(fixture, file), 0);
		}
	}
	assert_int_equal(tree_finish(fixture->tree, NULL), 0);
	for (int i = 0; i < 200; i++) {
		AUTO(free) char *name = mem_printf("x/y/%d", i);
		struct stat st;

		assert_int_equal(fstatat(fixture->fd, name, &st, 0), 0);
		assert_int_equal(st.st_mtime, 1000 + i);
		assert_int_equal(st.st_mode & 07777, 0700);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cleans_names),
		cmocka_unit_test_setup_teardown(goes_through_no_link, setup, teardown),
		cmocka_unit_test_setup_teardown(a_folder_that_is_replaced_is_forgotten, setup,
						teardown),
		cmocka_unit_test_setup_teardown(links_stay_inside, setup, teardown),
		cmocka_unit_test_setup_teardown(counts, setup, teardown),
		cmocka_unit_test_setup_teardown(keeps_more_folders_than_it_holds_open, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
