#include "container/criu.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"

static void test_first_error(void **state)
{
	static const char log[] = "(00.000064) Version: 3.17.1 (gitid 0)\n"
				  "(00.000112) Warn  (criu/x.c:1): not this one\n"
				  "(00.025515)     1: Error (criu/vdso.c:381): vdso: \x1b[1mBad\n"
				  "(00.025516) Error (criu/y.c:2): nor this\n";
	AUTO(strbuf_done) struct strbuf got = {};
	AUTO(strbuf_done) struct strbuf none = {};

	(void) state;
	criu_first_error(log, &got);
	assert_string_equal(strbuf_str(&got), "(criu/vdso.c:381): vdso: \\x1b[1mBad");
	criu_first_error("all is well\n", &none);
	assert_string_equal(strbuf_str(&none), "");
}

static void test_a_long_line_is_cut(void **state)
{
	AUTO(strbuf_done) struct strbuf log = {};
	AUTO(strbuf_done) struct strbuf got = {};

	(void) state;
	strbuf_puts(&log, "Error (");
	for (int i = 0; i < 1000; i++)
		strbuf_puts(&log, "x");
	criu_first_error(strbuf_str(&log), &got);
	assert_int_equal(got.size, 200);
}

/* ---- programs that stand for criu ---- */

struct place {
	char folder[64];
	char path[100];
};

static int place_make(void **state)
{
	struct place place = { .folder = "/tmp/brume-criu-XXXXXX" };

	assert_non_null(mkdtemp(place.folder));
	snprintf(place.path, sizeof(place.path), "%s/criu", place.folder);
	setenv("PATH", place.folder, 1);
	*state = memcpy(mem_new0(struct place), &place, sizeof(place));
	return 0;
}

static int place_remove(void **state)
{
	struct place *place = *state;

	assert_int_equal(file_remove_tree(AT_FDCWD, place->folder), 0);
	free(place);
	return 0;
}

static void make_program(const struct place *place, const char *script)
{
	AUTO(free) char *text = mem_printf("#!/bin/sh\n%s", script);

	assert_int_equal(file_write_atomic(AT_FDCWD, place->path, text, strlen(text), 0755, 0), 0);
}

#define ANSWER(minor) "printf '\\010\\012\\020\\001\\122\\004\\010\\003\\020\\" minor "' >&$2\n"

static void test_find(void **state)
{
	const struct place *place = *state;
	AUTO(free) char *path = NULL;
	struct error err = {};

	assert_int_equal(criu_find(&path, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "install the package criu"));
	make_program(place, "exit 0\n");
	assert_int_equal(criu_find(&path, &err), -ENOEXEC);
	assert_non_null(strstr(err.msg, place->path));
	make_program(place, ANSWER("020"));
	assert_int_equal(criu_find(&path, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.msg, "is version 3.16; 3.17 or newer"));
	make_program(place, ANSWER("021"));
	assert_int_equal(criu_find(&path, &err), 0);
	assert_string_equal(path, place->path);
}

static void test_only_whole_paths_are_searched(void **state)
{
	const struct place *place = *state;
	char *path = NULL;

	make_program(place, ANSWER("021"));
	assert_int_equal(chdir(place->folder), 0);
	setenv("PATH", ".::bin", 1);
	assert_int_equal(criu_find(&path, NULL), -ENOENT);
	unsetenv("PATH");
	assert_int_equal(criu_find(&path, NULL), -ENOENT);
	assert_int_equal(chdir("/"), 0);
}

static int count_notices(void *data, const char *script, pid_t pid, int fd, struct error *err)
{
	int *count = data;

	assert_string_equal(script, "ab");
	assert_int_equal(pid, 7);
	assert_int_equal(fd, -1);
	return ++*count < 3 ? 0 : error_say(err, -ECANCELED, "no more");
}

#define NOTICE "printf '\\010\\006\\020\\001\\052\\006\\012\\002ab\\020\\007' >&$2\n"

static void call(const struct place *place, const char *script, int wanted, int notices,
		 struct error *err)
{
	struct criu_start how = { .cgroup_fd = -1 };
	AUTO(strbuf_done) struct strbuf options = {};
	struct criu_reply reply;
	struct criu criu;
	int count = 0;

	make_program(place, script);
	assert_int_equal(criu_spawn(place->path, &how, &criu, err), 0);
	assert_int_equal(
		criu_call(&criu, CRIU_RESTORE, &options, count_notices, &count, &reply, err),
		wanted);
	assert_int_equal(count, notices);
	criu_end(&criu, true);
}

static void test_calls(void **state)
{
	const struct place *place = *state;
	struct error err = {};

	call(place, NOTICE NOTICE "printf '\\010\\002\\020\\001' >&$2\n", 0, 2, &err);
	call(place, "printf '\\010\\002\\020\\000' >&$2\n", -EIO, 0, &err);
	assert_string_equal(err.msg, "CRIU failed");
	call(place, "printf '\\010\\001\\020\\001' >&$2\n", -EIO, 0, &err);
	call(place, "printf 'nonsense' >&$2\n", -EBADMSG, 0, &err);
	call(place, "exit 0\n", -EPIPE, 0, &err);
	call(place, NOTICE NOTICE NOTICE NOTICE, -ECANCELED, 3, &err);
	assert_string_equal(err.msg, "no more");
}

static int not_ready(void *data, struct error *err)
{
	return error_say(err, -EPERM, "%s", (const char *) data);
}

static void test_what_fails_before_exec_is_told(void **state)
{
	const struct place *place = *state;
	struct criu_start how = { .cgroup_fd = -1, .prepare = not_ready, .data = "not ready" };
	struct error err = {};
	struct criu criu;

	make_program(place, "exit 0\n");
	assert_int_equal(criu_spawn(place->path, &how, &criu, &err), -EPERM);
	assert_string_equal(err.msg, "not ready");
	how.prepare = NULL;
	assert_int_equal(criu_spawn("/nowhere/criu", &how, &criu, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "/nowhere/criu"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_error),
		cmocka_unit_test(test_a_long_line_is_cut),
		cmocka_unit_test_setup_teardown(test_find, place_make, place_remove),
		cmocka_unit_test_setup_teardown(test_only_whole_paths_are_searched, place_make,
						place_remove),
		cmocka_unit_test_setup_teardown(test_calls, place_make, place_remove),
		cmocka_unit_test_setup_teardown(test_what_fails_before_exec_is_told, place_make,
						place_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
