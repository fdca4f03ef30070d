#include "kern/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/file.h"

static char folder[] = "/tmp/brume-mount-XXXXXX";
static int root = -1;

static int set_up(void **state)
{
	(void) state;
	strcpy(folder + sizeof(folder) - 7, "XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	root = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return mkdirat(root, "in", 0755) < 0 || mkdirat(root, "in/side", 0755) < 0;
}

static int tear_down(void **state)
{
	(void) state;
	close(root);
	return file_remove_tree(AT_FDCWD, folder);
}

static bool exists(const char *path, mode_t type)
{
	struct stat st;

	return fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & S_IFMT) == type;
}

static int create(const char *path, enum mount_place place)
{
	AUTO(fd_close) int fd = mount_create_in_root(root, path, place, 0755);

	return fd < 0 ? fd : 0;
}

static void test_create(void **state)
{
	(void) state;
	assert_int_equal(create("/a/b/c", MOUNT_PLACE_DIR), 0);
	assert_true(exists("a/b/c", S_IFDIR));
	assert_int_equal(create("x/y/file", MOUNT_PLACE_FILE), 0);
	assert_true(exists("x/y/file", S_IFREG));
	assert_int_equal(create("/", MOUNT_PLACE_DIR), 0);
	assert_int_equal(create("a/./b/../d", MOUNT_PLACE_DIR), 0);
	assert_true(exists("a/d", S_IFDIR));
	/* What is there is taken as it is. */
	assert_int_equal(create("x/y/file", MOUNT_PLACE_DIR), 0);
	assert_true(exists("x/y/file", S_IFREG));
	assert_int_equal(create("x/y/file/below", MOUNT_PLACE_DIR), -ENOTDIR);
}

static void test_nothing_leads_outside(void **state)
{
	(void) state;
	assert_int_equal(symlinkat("/", root, "top"), 0);
	assert_int_equal(symlinkat("../../../../../../tmp", root, "in/up"), 0);
	assert_int_equal(symlinkat("/elsewhere", root, "conf"), 0);
	assert_int_equal(create("top/one", MOUNT_PLACE_DIR), 0);
	assert_true(exists("one", S_IFDIR));
	assert_int_equal(create("in/up/two", MOUNT_PLACE_DIR), 0);
	assert_true(exists("tmp/two", S_IFDIR));
	assert_int_equal(create("/../../../three", MOUNT_PLACE_DIR), 0);
	assert_true(exists("three", S_IFDIR));
	/* A dangling link: its target is made, inside. */
	assert_int_equal(create("conf/four", MOUNT_PLACE_FILE), 0);
	assert_true(exists("conf", S_IFLNK));
	assert_true(exists("elsewhere/four", S_IFREG));
	assert_int_equal(mount_open_in_root(root, "conf/passwd", O_PATH), -ENOENT);
}

static void test_links(void **state)
{
	(void) state;
	assert_int_equal(symlinkat("../run/stub", root, "in/resolv"), 0);
	assert_int_equal(create("in/resolv", MOUNT_PLACE_FILE), 0);
	assert_true(exists("run/stub", S_IFREG));
	assert_int_equal(symlinkat("loop", root, "loop"), 0);
	assert_int_equal(create("loop/x", MOUNT_PLACE_DIR), -ELOOP);
}

static void test_plain(void **state)
{
	(void) state;
	assert_int_equal(symlinkat("in", root, "link"), 0);
	assert_int_equal(mount_open_plain(root, "link/side", O_PATH), -ELOOP);
	assert_int_equal(mount_open_plain(root, "link", O_PATH), -ELOOP);
	assert_int_equal(mount_open_plain(root, "/nothing", O_PATH), -ENOENT);
	AUTO(fd_close) int fd = mount_open_plain(root, "/../in/side", O_PATH | O_DIRECTORY);
	assert_true(fd >= 0);
}

static void test_parent(void **state)
{
	const char *name = NULL;
	AUTO(fd_close) int fd = mount_open_parent_in_root(root, "/dev/sub/node", &name);

	(void) state;
	assert_true(fd >= 0);
	assert_string_equal(name, "node");
	assert_true(exists("dev/sub", S_IFDIR));
	assert_int_equal(mount_open_parent_in_root(root, "/", &name), -EINVAL);
	assert_int_equal(mount_open_parent_in_root(root, "/dev/..", &name), -EINVAL);
}

static void test_too_long(void **state)
{
	static char path[9000];

	(void) state;
	memset(path, 'a', 300);
	assert_int_equal(create(path, MOUNT_PLACE_DIR), -ENAMETOOLONG);
	for (size_t i = 0; i + 2 < sizeof(path); i += 2)
		memcpy(path + i, "a/", 2);
	assert_int_equal(create(path, MOUNT_PLACE_DIR), -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_create, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_nothing_leads_outside, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_links, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_plain, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_parent, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_too_long, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
