#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "agent/native.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

static int check(const char *architecture, const char *host, const char *binfmt)
{
	return native_check(architecture, host, binfmt, NULL);
}

static void what_runs_by_itself(void **state)
{
	(void) state;
	assert_int_equal(check("amd64", "amd64", "/nowhere"), 0);
	assert_int_equal(check("386", "amd64", "/nowhere"), 0);
	assert_int_equal(check("arm", "arm64", "/nowhere"), 0);
	/* Who made the image has not said, or in words of his own. */
	assert_int_equal(check(NULL, "amd64", "/nowhere"), 0);
	assert_int_equal(check("", "amd64", "/nowhere"), 0);
	assert_int_equal(check("x86_64", "amd64", "/nowhere"), 0);
}

static void what_does_not(void **state)
{
	struct error err = {};

	(void) state;
	assert_int_equal(native_check("arm64", "amd64", "/nowhere", &err), -ENOEXEC);
	assert_string_equal(err.msg,
			    "the image is for arm64 and this node for amd64: --vm --emulate "
			    "runs it, many times slower");
	assert_int_equal(native_check("s390x", "amd64", "/nowhere", &err), -ENOEXEC);
	assert_string_equal(err.msg,
			    "the image is for s390x and this node for amd64, which cannot run "
			    "it");
	assert_int_equal(check("amd64", "arm64", "/nowhere"), -ENOEXEC);
	assert_int_equal(check("386", "arm64", "/nowhere"), -ENOEXEC);
}

static void write_entry(const char *dir, const char *text)
{
	AUTO(free) char *path = mem_printf("%s/qemu-aarch64", dir);

	assert_int_equal(file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, 0), 0);
}

static void an_interpreter(void **state)
{
	char dir[] = "/tmp/brume-native-XXXXXX";
	AUTO(free) char *path = NULL;

	(void) state;
	assert_non_null(mkdtemp(dir));
	path = mem_printf("%s/qemu-aarch64", dir);
	write_entry(dir,
		    "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: OCF\noffset 0\n");
	assert_int_equal(check("arm64", "amd64", dir), 0);
	assert_int_equal(check("riscv64", "amd64", dir), -ENOEXEC);
	write_entry(dir, "disabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: OCF\n");
	assert_int_equal(check("arm64", "amd64", dir), -ENOEXEC);
	/* It is looked for in the image, where it is not. */
	write_entry(dir, "enabled\ninterpreter /usr/bin/F\nflags: OC\n");
	assert_int_equal(check("arm64", "amd64", dir), -ENOEXEC);
	write_entry(dir, "");
	assert_int_equal(check("arm64", "amd64", dir), -ENOEXEC);
	unlink(path);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_runs_by_itself),
		cmocka_unit_test(what_does_not),
		cmocka_unit_test(an_interpreter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
