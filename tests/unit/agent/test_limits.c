#include "agent/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "agent/agent_internal.h"
#include "base/file.h"
#include "base/mem.h"

static const char uid[] = "0123456789abcdef0123456789abcdef";

struct folder {
	char path[64];
	struct agent_options options;
	struct agent agent;
};

static int set_up(void **state)
{
	struct folder *folder = mem_new0(struct folder);
	AUTO(free) char *run = NULL;

	strcpy(folder->path, "/tmp/brume-limits-XXXXXX");
	assert_non_null(mkdtemp(folder->path));
	folder->options.run = folder->path;
	folder->agent.options = &folder->options;
	run = agent_run_path(&folder->agent, uid, NULL);
	assert_int_equal(file_mkdir_all(run, 0700), 0);
	*state = folder;
	return 0;
}

static int tear_down(void **state)
{
	struct folder *folder = *state;

	file_remove_tree(AT_FDCWD, folder->path);
	free(folder);
	return 0;
}

static void the_next_agent_knows(void **state)
{
	struct folder *folder = *state;
	struct instance_limits written = { 1.1, UINT64_C(1) << 40, 77 }, read;

	assert_int_equal(limits_read(&folder->agent, uid, &read), -ENOENT);
	assert_int_equal(limits_write(&folder->agent, uid, &written, NULL), 0);
	assert_int_equal(limits_read(&folder->agent, uid, &read), 0);
	assert_true(instance_limits_equal(&written, &read));
	written = (struct instance_limits){};
	assert_int_equal(limits_write(&folder->agent, uid, &written, NULL), 0);
	assert_int_equal(limits_read(&folder->agent, uid, &read), 0);
	assert_true(instance_limits_equal(&written, &read));
}

/* What is not understood is not known: the limits are then written again. */
static void a_broken_note_is_none(void **state)
{
	static const char *const texts[] = { "", "1", "x y z", "1 2" };
	struct folder *folder = *state;
	AUTO(free) char *path = agent_run_path(&folder->agent, uid, "limits");
	struct instance_limits read;

	for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
		assert_int_equal(
			file_write_atomic(AT_FDCWD, path, texts[i], strlen(texts[i]), 0600, 0), 0);
		assert_int_equal(limits_read(&folder->agent, uid, &read), -ENOENT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_next_agent_knows, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_broken_note_is_none, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
