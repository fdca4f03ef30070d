#include "kern/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

static struct seccomp_filter *build_simple(void)
{
	AUTO(seccomp_builder_free) struct seccomp_builder *builder = NULL;
	struct seccomp_filter *filter = NULL;
	const struct seccomp_arg arg = { 0, "SCMP_CMP_EQ", 7, 0 };

	assert_int_equal(seccomp_builder_new("SCMP_ACT_ALLOW", 0, &builder, NULL), 0);
	assert_int_equal(
		seccomp_builder_add_rule(builder, "getppid", "SCMP_ACT_ERRNO", 77, NULL, 0, NULL),
		0);
	assert_int_equal(
		seccomp_builder_add_rule(builder, "umask", "SCMP_ACT_ERRNO", 78, &arg, 1, NULL), 0);
	assert_int_equal(seccomp_builder_build(builder, NULL, &filter, NULL), 0);
	return filter;
}

static void test_load(void **state)
{
	AUTO(seccomp_filter_free) struct seccomp_filter *filter = build_simple();
	pid_t pid = fork();
	int status;

	(void) state;
	if (pid == 0) {
		int bad;

		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		bad = seccomp_filter_load(filter) != 0;
		errno = 0;
		bad |= syscall(SYS_getppid) != -1 || errno != 77;
		syscall(SYS_umask, 7);
		bad |= errno != 78;
		errno = 0;
		syscall(SYS_umask, 022);
		_exit(bad || errno);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_refusals(void **state)
{
	AUTO(seccomp_builder_free) struct seccomp_builder *builder = NULL;
	AUTO(seccomp_builder_free) struct seccomp_builder *strict = NULL;
	AUTO(seccomp_filter_free) struct seccomp_filter *filter = NULL;
	const struct seccomp_arg arg = { 0, "LIKE", 7, 0 };
	const char *const flags[] = { "SECCOMP_FILTER_FLAG_MAGIC", NULL };
	struct error err = {};

	(void) state;
	assert_int_equal(seccomp_builder_new("NO", 0, &builder, &err), -EINVAL);
	assert_int_equal(seccomp_builder_new("SCMP_ACT_NOTIFY", 0, &builder, &err), -EINVAL);
	assert_int_equal(seccomp_builder_new("SCMP_ACT_ALLOW", 0, &builder, &err), 0);
	assert_int_equal(seccomp_builder_add_arch(builder, "x86", &err), -EINVAL);
	assert_int_equal(seccomp_builder_add_arch(builder, "SCMP_ARCH_NONE", &err), -EINVAL);
	/* Leaving this out would permit it; leaving it out of a list of the permitted does not. */
	assert_int_equal(seccomp_builder_add_rule(builder, "no_such_call", "SCMP_ACT_ERRNO", 1,
						  NULL, 0, &err),
			 -EINVAL);
	assert_int_equal(seccomp_builder_new("SCMP_ACT_ERRNO", 1, &strict, &err), 0);
	assert_int_equal(seccomp_builder_add_rule(strict, "no_such_call", "SCMP_ACT_ALLOW", 1, NULL,
						  0, &err),
			 0);
	assert_int_equal(
		seccomp_builder_add_rule(builder, "read", "SCMP_ACT_ERRNO", 1, &arg, 1, &err),
		-EINVAL);
	assert_int_equal(seccomp_builder_build(builder, flags, &filter, &err), -EINVAL);
}

static void test_cache(void **state)
{
	AUTO(seccomp_filter_free) struct seccomp_filter *filter = build_simple();
	AUTO(seccomp_filter_free) struct seccomp_filter *again = NULL;
	char folder[] = "/tmp/brume-seccomp-XXXXXX";
	char key[SECCOMP_KEY_SIZE], other[SECCOMP_KEY_SIZE];
	AUTO(free) char *path = NULL;

	(void) state;
	assert_non_null(mkdtemp(folder));
	seccomp_cache_key("a", 1, key);
	seccomp_cache_key("b", 1, other);
	assert_int_equal(strlen(key), 64);
	assert_string_not_equal(key, other);
	assert_int_equal(seccomp_cache_get(folder, key, &again), -ENOENT);
	assert_int_equal(seccomp_cache_put(folder, key, filter), 0);
	assert_int_equal(seccomp_cache_get(folder, other, &again), -ENOENT);
	assert_int_equal(seccomp_cache_get(folder, key, &again), 0);
	assert_int_equal(again->size, filter->size);
	assert_memory_equal(again->program, filter->program, filter->size);
	seccomp_filter_free(TAKE_PTR(again));
	/* Writable by others, damaged, or cut off: as if it were not there. */
	path = mem_printf("%s/%s", folder, key);
	assert_int_equal(chmod(path, 0622), 0);
	assert_int_equal(seccomp_cache_get(folder, key, &again), -ENOENT);
	assert_int_equal(chmod(path, 0600), 0);
	assert_int_equal(truncate(path, 30), 0);
	assert_int_equal(seccomp_cache_get(folder, key, &again), -ENOENT);
	assert_int_equal(truncate(path, 3), 0);
	assert_int_equal(seccomp_cache_get(folder, key, &again), -ENOENT);
	assert_int_equal(file_remove_tree(AT_FDCWD, folder), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_load),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_cache),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
