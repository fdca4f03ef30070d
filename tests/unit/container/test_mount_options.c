#include "container/mount_options.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mount.h>

#include <cmocka.h>

static void test_everything(void **state)
{
	const char *const list[] = { "defaults", "rbind",    "ro",     "nosuid",  "noexec",
				     "exec",     "rnodev",   "rslave", "size=1m", "noatime",
				     "",         "mode=700", NULL };
	struct mount_options options;

	(void) state;
	mount_options_parse(list, &options);
	assert_true(options.bind && options.recursive && !options.idmap && !options.remount);
	assert_true(options.set == (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOATIME));
	assert_true(options.clear == (MOUNT_ATTR_NOEXEC | MOUNT_ATTR__ATIME));
	assert_true(options.set_all == MOUNT_ATTR_NODEV && options.clear_all == 0);
	assert_true(options.propagation == MS_SLAVE && options.propagation_all);
	assert_string_equal(options.data[0], "size=1m");
	assert_string_equal(options.data[1], "mode=700");
	assert_null(options.data[2]);
	mount_options_done(&options);
}

static void test_last_wins(void **state)
{
	const char *const list[] = { "ro", "rw", "noatime", "strictatime", "ridmap", NULL };
	struct mount_options options;

	(void) state;
	mount_options_parse(list, &options);
	assert_true(options.set == MOUNT_ATTR_STRICTATIME);
	assert_true(options.clear == (MOUNT_ATTR_RDONLY | MOUNT_ATTR__ATIME));
	assert_true(options.idmap && options.idmap_recursive && !options.bind);
	mount_options_done(&options);
	mount_options_parse(NULL, &options);
	assert_null(options.data[0]);
	mount_options_done(&options);
}

static void test_propagation(void **state)
{
	uint64_t flag = 0;
	bool all = true;

	(void) state;
	assert_int_equal(mount_options_propagation("shared", &flag, &all), 0);
	assert_true(flag == MS_SHARED && !all);
	assert_int_equal(mount_options_propagation("runbindable", &flag, &all), 0);
	assert_true(flag == MS_UNBINDABLE && all);
	assert_int_equal(mount_options_propagation("rx", &flag, &all), -EINVAL);
	assert_int_equal(mount_options_propagation("", &flag, &all), -EINVAL);
}

/* What `features` promises is what the parser knows. */
static void test_names(void **state)
{
	const char *name;

	(void) state;
	for (unsigned int i = 0; (name = mount_options_name(i)); i++) {
		const char *const list[] = { name, NULL };
		struct mount_options options;

		mount_options_parse(list, &options);
		/* Those the kernel knows for every file system are handed on. */
		if (options.data[0] && strcmp(name, "sync") != 0 && strcmp(name, "dirsync") != 0 &&
		    strcmp(name, "lazytime") != 0 && strcmp(name, "mand") != 0)
			fail_msg("%s is not known", name);
		mount_options_done(&options);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything),
		cmocka_unit_test(test_last_wins),
		cmocka_unit_test(test_propagation),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
