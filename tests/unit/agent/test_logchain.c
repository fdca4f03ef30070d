#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/logchain.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"

/* Line n was written in second n. */
enum { LINES = 9000, PER_FILE = 3000, BOTH = 1 << 1 | 1 << 2 };

struct world {
	char *folder, *path;
	uint64_t begins[LINES + 1]; /* positions; the last one is the end */
	struct logchain chain;
};

static void put_line(struct strbuf *text, unsigned int n)
{
	char prefix[LOGLINE_PREFIX_SIZE];

	logline_write_prefix(prefix, (int64_t) n * 1000000000, LOGLINE_STDOUT, false);
	strbuf_append(text, prefix, sizeof(prefix));
	strbuf_printf(text, "line %u\n", n);
}

static void write_file(struct world *world, unsigned int number, uint64_t base, unsigned int first)
{
	AUTO(free)
	char *name = number ? mem_printf("%s.%u", world->path, number) : mem_strdup(world->path);
	AUTO(strbuf_done) struct strbuf text = {};
	char head[LOGLINE_HEAD_SIZE];

	logline_write_head(head, base);
	strbuf_append(&text, head, sizeof(head));
	for (unsigned int n = first; n < first + PER_FILE; n++) {
		world->begins[n] = base + text.size;
		put_line(&text, n);
	}
	world->begins[first + PER_FILE] = base + text.size;
	assert_int_equal(file_write_atomic(AT_FDCWD, name, text.data, text.size, 0600, 0), 0);
}

static int set_up(void **state)
{
	struct world *world = mem_new0(struct world);

	*state = world;
	world->folder = mem_strdup("/tmp/brume-test-logchain-XXXXXX");
	if (!mkdtemp(world->folder))
		return -1;
	world->path = mem_printf("%s/log", world->folder);
	write_file(world, 2, 0, 0);
	write_file(world, 1, world->begins[PER_FILE], PER_FILE);
	write_file(world, 0, world->begins[2 * PER_FILE], 2 * PER_FILE);
	logchain_open(&world->chain, world->path);
	return 0;
}

static int tear_down(void **state)
{
	struct world *world = *state;
	int r = file_remove_tree(AT_FDCWD, world->folder);

	logchain_close(&world->chain);
	free(world->folder);
	free(world->path);
	free(world);
	return r;
}

/* A line's position, or that of the head in front of it. */
static void expect_line(const struct world *world, uint64_t position, unsigned int n)
{
	uint64_t want = world->begins[n];

	if (position != want && position + LOGLINE_HEAD_SIZE != want)
		fail_msg("line %u is at %llu, not %llu", n, (unsigned long long) want,
			 (unsigned long long) position);
}

static void is_one_string(void **state)
{
	struct world *world = *state;
	AUTO(strbuf_done) struct strbuf all = {};
	uint64_t position = 0;
	size_t n;

	assert_int_equal(world->chain.count, 3);
	assert_int_equal(logchain_begin(&world->chain), 0);
	assert_int_equal(logchain_end(&world->chain), world->begins[LINES]);
	while ((n = logchain_read(&world->chain, &position, strbuf_reserve(&all, 5000), 5000)) >
	       0) {
		strbuf_grown(&all, n);
		position += n;
	}
	assert_int_equal(all.size, world->begins[LINES]);
	assert_memory_equal(all.data + world->begins[4711] + LOGLINE_PREFIX_SIZE, "line 4711\n",
			    10);
}

static void finds_times(void **state)
{
	struct world *world = *state;

	for (unsigned int n = 0; n < LINES; n += 7) {
		expect_line(world, logchain_find_time(&world->chain, (int64_t) n * 1000000000), n);
		expect_line(world, logchain_find_time(&world->chain, (int64_t) n * 1000000000 - 1),
			    n);
	}
	assert_int_equal(logchain_find_time(&world->chain, INT64_MAX), world->begins[LINES]);
	expect_line(world, logchain_find_time(&world->chain, 0), 0);
}

static void finds_tails(void **state)
{
	struct world *world = *state;
	uint64_t end = world->begins[LINES];

	for (int64_t tail = 1; tail <= LINES; tail += 13)
		expect_line(world, logchain_find_tail(&world->chain, 0, end, tail, BOTH),
			    LINES - (unsigned int) tail);
	assert_int_equal(logchain_find_tail(&world->chain, 0, end, 0, BOTH), end);
	expect_line(world, logchain_find_tail(&world->chain, 0, end, LINES + 5, BOTH), 0);
	/* Between two places, and of a stream that says nothing. */
	expect_line(world,
		    logchain_find_tail(&world->chain, world->begins[100], world->begins[5000], 10,
				       BOTH),
		    4990);
	expect_line(world,
		    logchain_find_tail(&world->chain, world->begins[4995], world->begins[5000], 10,
				       BOTH),
		    4995);
	assert_int_equal(logchain_find_tail(&world->chain, 0, end, 10, 1 << LOGLINE_STDERR), end);
}

static void goes_over_holes(void **state)
{
	struct world *world = *state;
	AUTO(free) char *one = mem_printf("%s.1", world->path);
	uint64_t position = world->begins[PER_FILE] - LOGLINE_HEAD_SIZE - 20;
	char buffer[100];

	unlink(one);
	logchain_close(&world->chain);
	logchain_open(&world->chain, world->path);
	assert_int_equal(world->chain.count, 2);
	assert_int_equal(logchain_read(&world->chain, &position, buffer, 100), 20);
	position += 20;
	assert_int_equal(logchain_read(&world->chain, &position, buffer, 100), 100);
	expect_line(world, position, 2 * PER_FILE);
	expect_line(world, logchain_find_time(&world->chain, INT64_C(4000) * 1000000000),
		    2 * PER_FILE);
}

static void knows_of_rotations(void **state)
{
	struct world *world = *state;
	AUTO(free) char *three = mem_printf("%s.3", world->path);
	uint64_t position = world->begins[2 * PER_FILE + 5];

	assert_false(logchain_is_outdated(&world->chain, world->path));
	assert_int_equal(rename(world->path, three), 0);
	/* Between the renaming and the new file there is nothing new to read. */
	assert_false(logchain_is_outdated(&world->chain, world->path));
	assert_int_equal(file_write_atomic(AT_FDCWD, world->path, "", 0, 0600, 0), 0);
	assert_true(logchain_is_outdated(&world->chain, world->path));
	logchain_drop(&world->chain, position);
	assert_int_equal(world->chain.count, 1);
	expect_line(world, logchain_begin(&world->chain), 2 * PER_FILE);
}

static void pieces_belong_to_their_line(void **state)
{
	struct world *world = *state;
	AUTO(free) char *path = mem_printf("%s/pieces", world->folder);
	static const char a[] = "1970-01-01T00:00:00.000000000Z stdout F a\n";
	static const char b1[] = "1970-01-01T00:00:00.000000000Z stdout P b\n";
	static const char e[] = "1970-01-01T00:00:00.000000000Z stderr F e\n";
	static const char b2[] = "1970-01-01T00:00:00.000000000Z stdout F b\n";
	static const char c[] = "1970-01-01T00:00:00.000000000Z stdout P c\n";
	AUTO(free) char *text = mem_printf("%s%s%s%s%s", a, b1, e, b2, c);
	const uint64_t line = sizeof(a) - 1;
	struct logchain chain;

	assert_int_equal(file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, 0), 0);
	logchain_open(&chain, path);
	/* A line that has not ended counts, too. */
	assert_int_equal(logchain_find_tail(&chain, 0, 5 * line, 1, BOTH), 4 * line);
	assert_int_equal(logchain_find_tail(&chain, 0, 5 * line, 2, 1 << LOGLINE_STDOUT), line);
	assert_int_equal(logchain_find_tail(&chain, 0, 5 * line, 3, BOTH), line);
	assert_int_equal(logchain_find_tail(&chain, 0, 5 * line, 1, 1 << LOGLINE_STDERR), 2 * line);
	logchain_close(&chain);
}

static void without_a_log_there_is_nothing(void **state)
{
	struct logchain chain;
	uint64_t position = 5;
	char byte;

	(void) state;
	logchain_open(&chain, "/nonexistent/log");
	assert_int_equal(chain.count, 0);
	assert_int_equal(logchain_end(&chain), 0);
	assert_int_equal(logchain_read(&chain, &position, &byte, 1), 0);
	assert_int_equal(logchain_find_time(&chain, 7), 0);
	assert_int_equal(logchain_find_tail(&chain, 0, 0, 5, BOTH), 0);
	assert_false(logchain_is_outdated(&chain, "/nonexistent/log"));
	logchain_close(&chain);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(is_one_string, set_up, tear_down),
		cmocka_unit_test_setup_teardown(finds_times, set_up, tear_down),
		cmocka_unit_test_setup_teardown(finds_tails, set_up, tear_down),
		cmocka_unit_test_setup_teardown(goes_over_holes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(knows_of_rotations, set_up, tear_down),
		cmocka_unit_test_setup_teardown(pieces_belong_to_their_line, set_up, tear_down),
		cmocka_unit_test_setup_teardown(without_a_log_there_is_nothing, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
