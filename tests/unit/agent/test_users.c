#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "agent/users.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"

struct root {
	char path[64];
	int fd;
};

static void put(struct root *root, const char *name, const char *text)
{
	assert_int_equal(file_write_atomic(root->fd, name, text, strlen(text), 0644, 0), 0);
}

static int setup(void **state)
{
	static struct root root;

	strcpy(root.path, "/tmp/test-users-XXXXXX");
	assert_non_null(mkdtemp(root.path));
	root.fd = open(root.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(root.fd >= 0);
	assert_int_equal(mkdirat(root.fd, "etc", 0755), 0);
	put(&root, "etc/passwd",
	    "root:x:0:0:root:/root:/bin/sh\nbroken line\nwww:x:33:34:web:/var/www:/bin/sh\n"
	    "huge:x:99999:99999::/:/bin/sh\n");
	put(&root, "etc/group", "root:x:0:\nadm:x:4:www,root\nssl:x:101:nobody,www\nwww:x:34:\n");
	*state = &root;
	return 0;
}

static int teardown(void **state)
{
	struct root *root = *state;

	close(root->fd);
	return file_remove_tree(AT_FDCWD, root->path);
}

static void test_default_is_root_with_its_home(void **state)
{
	struct root *root = *state;
	struct users user = {};

	assert_int_equal(users_resolve(root->fd, NULL, &user, NULL), 0);
	assert_int_equal(user.uid, 0);
	assert_int_equal(user.gid, 0);
	assert_string_equal(user.home, "/root");
}

static void test_name_brings_its_groups(void **state)
{
	struct root *root = *state;
	struct users user = {};

	assert_int_equal(users_resolve(root->fd, "www", &user, NULL), 0);
	assert_int_equal(user.uid, 33);
	assert_int_equal(user.gid, 34);
	assert_int_equal(user.group_count, 2);
	assert_int_equal(user.groups[0], 4);
	assert_int_equal(user.groups[1], 101);
	assert_string_equal(user.home, "/var/www");
}

static void test_group_after_a_colon_replaces_them(void **state)
{
	struct root *root = *state;
	struct users user = {};

	assert_int_equal(users_resolve(root->fd, "www:ssl", &user, NULL), 0);
	assert_int_equal(user.gid, 101);
	assert_int_equal(user.group_count, 0);
}

static void test_numbers_need_no_entry(void **state)
{
	struct root *root = *state;
	struct users user = {};

	assert_int_equal(users_resolve(root->fd, "1234:4321", &user, NULL), 0);
	assert_int_equal(user.uid, 1234);
	assert_int_equal(user.gid, 4321);
	assert_string_equal(user.home, "/");
}

static void test_unknown_and_impossible_are_refused(void **state)
{
	static const struct {
		const char *text;
		const char *message;
	} cases[] = {
		{ "nobody",
		  "user: 'nobody' is neither in the image's /etc/passwd nor a number up to 65535" },
		{ "www:nogroup", "user: group 'nogroup' is neither in the image's /etc/group nor a "
				 "number up to 65535" },
		{ "70000",
		  "user: '70000' is neither in the image's /etc/passwd nor a number up to 65535" },
		{ "huge",
		  "user: 'huge' is neither in the image's /etc/passwd nor a number up to 65535" },
	};
	struct root *root = *state;

	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct users user;
		struct error err = {};

		assert_int_equal(users_resolve(root->fd, cases[i].text, &user, &err), -EINVAL);
		assert_string_equal(err.msg, cases[i].message);
	}
}

static void test_passwd_outside_the_root_is_not_read(void **state)
{
	struct root *root = *state;
	struct users user;
	char outside[128];

	snprintf(outside, sizeof(outside), "%s-outside", root->path);
	assert_int_equal(file_write_atomic(AT_FDCWD, outside, "evil:x:1:1::/:\n", 15, 0644, 0), 0);
	assert_int_equal(unlinkat(root->fd, "etc/passwd", 0), 0);
	assert_int_equal(symlinkat(outside, root->fd, "etc/passwd"), 0);
	assert_int_equal(users_resolve(root->fd, "evil", &user, NULL), -EINVAL);
	unlink(outside);
}

static void test_fifo_as_passwd_does_not_hang(void **state)
{
	struct root *root = *state;
	struct users user;

	assert_int_equal(unlinkat(root->fd, "etc/passwd", 0), 0);
	assert_int_equal(mkfifoat(root->fd, "etc/passwd", 0644), 0);
	assert_int_equal(users_resolve(root->fd, "www", &user, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_default_is_root_with_its_home, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_name_brings_its_groups, setup, teardown),
		cmocka_unit_test_setup_teardown(test_group_after_a_colon_replaces_them, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_numbers_need_no_entry, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unknown_and_impossible_are_refused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_passwd_outside_the_root_is_not_read, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_fifo_as_passwd_does_not_hang, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
