#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/logtail.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"

#define T "1970-01-01T00:00:00.000000000Z "

struct world {
	char *folder, *path, *old;
};

static int set_up(void **state)
{
	struct world *world = mem_new0(struct world);

	*state = world;
	world->folder = mem_strdup("/tmp/brume-test-logtail-XXXXXX");
	if (!mkdtemp(world->folder))
		return -1;
	world->path = mem_printf("%s/log", world->folder);
	world->old = mem_printf("%s.1", world->path);
	return 0;
}

static int tear_down(void **state)
{
	struct world *world = *state;
	int r = file_remove_tree(AT_FDCWD, world->folder);

	free(world->folder);
	free(world->path);
	free(world->old);
	free(world);
	return r;
}

static void write_text(const char *path, const char *text)
{
	assert_int_equal(file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, 0), 0);
}

/* What is read from where the last lines begin to the end of that file. */
static void expect(struct world *world, int64_t lines, const char *want)
{
	AUTO(free) char *text = NULL;
	struct logtail tail;

	logtail_find(world->path, lines, &tail);
	assert_true(tail.fd >= 0);
	assert_int_equal(file_read_fd(tail.fd, 1 << 24, &text, NULL), 0);
	close(tail.fd);
	assert_string_equal(text, want);
}

static void finds_the_last_lines(void **state)
{
	struct world *world = *state;

	write_text(world->path, T "stdout F a\n" T "stdout F b\n" T "stderr F c\n");
	expect(world, -1, T "stdout F a\n" T "stdout F b\n" T "stderr F c\n");
	expect(world, 2, T "stdout F b\n" T "stderr F c\n");
	expect(world, 0, "");
	expect(world, 9, T "stdout F a\n" T "stdout F b\n" T "stderr F c\n");
}

static void pieces_belong_to_their_line(void **state)
{
	struct world *world = *state;

	write_text(world->path, T "stdout F a\n" T "stdout P b1\n" T "stdout F b2\n");
	expect(world, 1, T "stdout P b1\n" T "stdout F b2\n");
	/* A line that has not ended counts, too. */
	write_text(world->path, T "stdout F a\n" T "stdout F b\n" T "stdout P c\n");
	expect(world, 1, T "stdout P c\n");
	expect(world, 2, T "stdout F b\n" T "stdout P c\n");
}

static void goes_back_into_the_rotated_file(void **state)
{
	struct world *world = *state;

	write_text(world->old, T "stdout F a\n" T "stdout F b\n");
	write_text(world->path, T "stdout F c\n");
	expect(world, 1, T "stdout F c\n");
	expect(world, 2, T "stdout F b\n");
	expect(world, -1, T "stdout F a\n" T "stdout F b\n");
}

static void counts_across_its_buffer(void **state)
{
	struct world *world = *state;
	AUTO(strbuf_done) struct strbuf all = {}, last = {};

	for (int i = 0; i < 5000; i++) {
		strbuf_printf(&all, T "stdout F line %d of many that fill more than a buffer\n", i);
		if (i >= 4990)
			strbuf_printf(&last,
				      T "stdout F line %d of many that fill more than a buffer\n",
				      i);
	}
	write_text(world->path, strbuf_str(&all));
	expect(world, 10, strbuf_str(&last));
}

static void without_a_log_there_is_nothing(void **state)
{
	struct world *world = *state;
	struct logtail tail;

	logtail_find(world->path, 5, &tail);
	assert_int_equal(tail.fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(finds_the_last_lines, set_up, tear_down),
		cmocka_unit_test_setup_teardown(pieces_belong_to_their_line, set_up, tear_down),
		cmocka_unit_test_setup_teardown(goes_back_into_the_rotated_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(counts_across_its_buffer, set_up, tear_down),
		cmocka_unit_test_setup_teardown(without_a_log_there_is_nothing, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
