/* brume-oci is played by a shell script here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/oci.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

static const char script[] = "#!/bin/sh\n"
			     "case $3 in\n"
			     "state) echo \"{\\\"status\\\":\\\"$4\\\"}\";;\n"
			     "echo) echo \"$@\"; exit 0;;\n"
			     "fail) echo noise >&2; echo 'brume-oci: the reason' >&2; exit 1;;\n"
			     "silent) exit 7;;\n"
			     "die) kill -9 $$;;\n"
			     "flood) head -c 300000 /dev/zero; exit 0;;\n"
			     "delete) rmdir \"$2/$5\"; exit 1;;\n"
			     "esac\n";

struct world {
	char *folder, *oci;
	struct agent_options options;
};

static int set_up(void **state)
{
	struct world *world = mem_new0(struct world);

	*state = world;
	world->folder = mem_strdup("/tmp/brume-test-oci-XXXXXX");
	if (!mkdtemp(world->folder))
		return -1;
	world->oci = mem_printf("%s/brume-oci", world->folder);
	world->options.run = world->folder;
	world->options.oci = world->oci;
	return file_write_atomic(AT_FDCWD, world->oci, script, sizeof(script) - 1, 0700, 0);
}

static int tear_down(void **state)
{
	struct world *world = *state;
	int r = file_remove_tree(AT_FDCWD, world->folder);

	free(world->folder);
	free(world->oci);
	free(world);
	return r;
}

static void expect_error(struct world *world, const char *command, const char *want)
{
	struct error err = {};

	assert_true(oci_do(&world->options, command, "uid", &err) < 0);
	assert_string_equal(err.msg, want);
}

static void tells_what_the_program_said(void **state)
{
	struct world *world = *state;

	expect_error(world, "fail", "the reason");
	expect_error(world, "silent", "brume-oci silent failed with code 7");
	expect_error(world, "die", "brume-oci die was ended by signal 9");
}

static void gives_its_output(void **state)
{
	struct world *world = *state;
	char *argv[] = { (char *) "echo", (char *) "a b", NULL };
	AUTO(free) char *want = mem_printf("--root %s/oci echo a b\n", world->folder);
	AUTO(free) char *out = NULL;

	assert_int_equal(oci_run(&world->options, argv, &out, NULL), 0);
	assert_string_equal(out, want);
}

static void survives_a_flood(void **state)
{
	struct world *world = *state;

	assert_int_equal(oci_do(&world->options, "flood", "uid", NULL), 0);
}

static void make_container(struct world *world, const char *uid)
{
	AUTO(free) char *path = mem_printf("%s/oci/%s", world->folder, uid);

	assert_int_equal(file_mkdir_all(path, 0700), 0);
}

static void knows_the_states(void **state)
{
	struct world *world = *state;
	enum oci_status status;

	assert_int_equal(oci_state(&world->options, "running", &status, NULL), 0);
	assert_int_equal(status, OCI_STATUS_NONE);
	make_container(world, "running");
	assert_int_equal(oci_state(&world->options, "running", &status, NULL), 0);
	assert_int_equal(status, OCI_STATUS_RUNNING);
	make_container(world, "paused");
	assert_int_equal(oci_state(&world->options, "paused", &status, NULL), 0);
	assert_int_equal(status, OCI_STATUS_PAUSED);
	make_container(world, "strange");
	assert_int_equal(oci_state(&world->options, "strange", &status, NULL), 0);
	assert_int_equal(status, OCI_STATUS_NONE);
}

/* A delete that complains but after which nothing is left was a success. */
static void deleting_twice_is_fine(void **state)
{
	struct world *world = *state;

	make_container(world, "gone");
	assert_int_equal(oci_delete(&world->options, "gone", NULL), 0);
	assert_int_equal(oci_delete(&world->options, "gone", NULL), 0);
}

static void forgets_what_nobody_works_on(void **state)
{
	struct world *world = *state;
	AUTO(free) char *folder = mem_printf("%s/oci/uid", world->folder);
	AUTO(free) char *file = mem_printf("%s/state.json", folder);
	struct error err = {};

	assert_int_equal(oci_forget(&world->options, "uid", &err), 0);
	assert_int_equal(file_mkdir_all(folder, 0700), 0);
	assert_int_equal(file_write_atomic(AT_FDCWD, file, "{}", 2, 0600, 0), 0);
	AUTO(fd_close) int command = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(flock(command, LOCK_EX), 0);
	assert_int_equal(oci_forget(&world->options, "uid", &err), -EBUSY);
	assert_int_equal(access(file, F_OK), 0);
	close(TAKE_FD(command));
	assert_int_equal(oci_forget(&world->options, "uid", &err), 0);
	assert_int_equal(access(folder, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(tells_what_the_program_said, set_up, tear_down),
		cmocka_unit_test_setup_teardown(gives_its_output, set_up, tear_down),
		cmocka_unit_test_setup_teardown(survives_a_flood, set_up, tear_down),
		cmocka_unit_test_setup_teardown(knows_the_states, set_up, tear_down),
		cmocka_unit_test_setup_teardown(deleting_twice_is_fine, set_up, tear_down),
		cmocka_unit_test_setup_teardown(forgets_what_nobody_works_on, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
