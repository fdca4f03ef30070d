#include "container/hooks.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

static struct oci_state container = { .version = (char *) "1.0.2",
				      .id = (char *) "x",
				      .bundle = (char *) "/b" };

static int run(const char *script, int64_t timeout_s, struct error *err)
{
	const char *const args[] = { "sh", "-c", script, NULL };
	const char *const env[] = { "PATH=/usr/bin:/bin", "A=b", NULL };
	struct oci_hook hook = { "/bin/sh", args, env, timeout_s };
	struct oci_spec spec = { .hooks = { [OCI_HOOK_PRESTART] = { &hook, 1 } } };

	return hooks_run(&spec, OCI_HOOK_PRESTART, &container, OCI_STATUS_CREATING, err);
}

static void test_runs(void **state)
{
	struct error err = {};

	(void) state;
	assert_int_equal(run("exit 0", 0, &err), 0);
	assert_int_equal(run("test \"$A\" = b", 0, &err), 0);
	assert_int_equal(
		run("read -r s; case $s in *'\"status\":\"creating\"'*) ;; *) exit 1;; esac", 0,
		    &err),
		0);
}

static void test_fails(void **state)
{
	struct error err = {};

	(void) state;
	assert_true(run("exit 3", 0, &err) < 0);
	assert_non_null(strstr(err.msg, "exit code 3"));
	assert_non_null(strstr(err.msg, "prestart"));
	assert_true(run("kill -9 $$", 0, &err) < 0);
	assert_non_null(strstr(err.msg, "signal 9"));
	assert_int_equal(
		run("while :; do read -r x || exec cat /dev/zero > /dev/null; done", 1, &err),
		-ETIMEDOUT);
}

static void test_missing(void **state)
{
	struct oci_hook hook = { "/nonexistent/hook", NULL, NULL, 0 };
	struct oci_spec spec = { .hooks = { [OCI_HOOK_POSTSTOP] = { &hook, 1 } } };
	struct error err = {};

	(void) state;
	assert_int_equal(hooks_run(&spec, OCI_HOOK_POSTSTOP, &container, OCI_STATUS_STOPPED, &err),
			 -ENOENT);
	/* Where nothing can be taken back, the failure is only told. */
	hooks_run_all(&spec, OCI_HOOK_POSTSTOP, &container, OCI_STATUS_STOPPED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_fails),
		cmocka_unit_test(test_missing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
