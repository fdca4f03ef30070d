#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "machine/ring.h"

struct world {
	char dir[32];
	int dir_fd;
	struct ring *ring;
};

static int setup(void **state)
{
	struct world *world = mem_new0(struct world);

	strcpy(world->dir, "/tmp/brume-ring-XXXXXX");
	assert_non_null(mkdtemp(world->dir));
	world->dir_fd = open(world->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(ring_new(world->dir_fd, "console", &world->ring, NULL), 0);
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	ring_free(world->ring);
	close(world->dir_fd);
	file_remove_tree(AT_FDCWD, world->dir);
	free(world);
	return 0;
}

/* What a reader of the file gets while the writer still has it. */
static void assert_file(const struct world *world, const char *want, size_t want_size)
{
	AUTO(strbuf_done) struct strbuf out = {}, copy = {};
	AUTO(free) char *file = NULL;
	size_t size = 0;

	assert_int_equal(file_read(world->dir_fd, "console", RING_FILE_MAX, &file, &size), 0);
	ring_decode(file, size, &out);
	assert_int_equal(out.size, want_size);
	assert_memory_equal(strbuf_str(&out), want, want_size);
	ring_copy(world->ring, &copy);
	assert_int_equal(copy.size, want_size);
	assert_memory_equal(strbuf_str(&copy), want, want_size);
}

static void is_in_the_file_at_once(void **state)
{
	struct world *world = *state;

	assert_file(world, "", 0);
	ring_put(world->ring, "one ", 4);
	assert_file(world, "one ", 4);
	ring_put(world->ring, "two", 3);
	assert_file(world, "one two", 7);
}

static void keeps_the_last(void **state)
{
	struct world *world = *state;
	AUTO(free) char *text = mem_zalloc(3 * RING_SIZE);

	for (size_t i = 0; i < 3 * RING_SIZE; i++)
		text[i] = (char) ('a' + i % 23);
	ring_put(world->ring, text, RING_SIZE);
	assert_file(world, text, RING_SIZE);
	ring_put(world->ring, text + RING_SIZE, 100);
	assert_file(world, text + 100, RING_SIZE);
	ring_put(world->ring, text + RING_SIZE + 100, 2 * RING_SIZE - 100);
	assert_file(world, text + 2 * RING_SIZE, RING_SIZE);
}

static void replaces_what_was_there(void **state)
{
	struct world *world = *state;

	ring_put(world->ring, "old", 3);
	ring_free(world->ring);
	world->ring = NULL;
	assert_int_equal(ring_new(world->dir_fd, "console", &world->ring, NULL), 0);
	assert_file(world, "", 0);
}

static void any_file_has_an_answer(void **state)
{
	AUTO(free) char *file = mem_zalloc(RING_FILE_MAX);
	AUTO(strbuf_done) struct strbuf plain = {}, huge = {}, text = {};

	(void) state;
	ring_decode("plain text", 10, &plain);
	assert_string_equal(strbuf_str(&plain), "plain text");
	memcpy(file, "brumerng\xff\xff\xff\xff\xff\xff\xff\xff", 16);
	ring_decode(file, RING_FILE_MAX, &huge);
	assert_int_equal(huge.size, RING_SIZE);
	memset(file, 'x', RING_FILE_MAX);
	ring_decode(file, RING_FILE_MAX, &text);
	assert_int_equal(text.size, RING_SIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(is_in_the_file_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(keeps_the_last, setup, teardown),
		cmocka_unit_test_setup_teardown(replaces_what_was_there, setup, teardown),
		cmocka_unit_test(any_file_has_an_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
