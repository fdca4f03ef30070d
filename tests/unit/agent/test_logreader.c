#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/logreader.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

#define UID "0123abcd0123abcd0123abcd0123abcd"
#define T "1970-01-01T00:00:0"
#define NS ".000000000Z "

struct world {
	char *folder, *path;
	uint64_t end; /* of the log */
	struct logreader reader;
};

static int set_up(void **state)
{
	struct world *world = mem_new0(struct world);

	*state = world;
	world->folder = mem_strdup("/tmp/brume-test-logreader-XXXXXX");
	if (!mkdtemp(world->folder))
		return -1;
	world->path = mem_printf("%s/log", world->folder);
	return 0;
}

static int tear_down(void **state)
{
	struct world *world = *state;
	int r = file_remove_tree(AT_FDCWD, world->folder);

	logreader_done(&world->reader);
	free(world->folder);
	free(world->path);
	free(world);
	return r;
}

static void append(struct world *world, const char *text)
{
	FILE *file = fopen(world->path, "a");

	assert_non_null(file);
	if (ftell(file) == 0) {
		char head[LOGLINE_HEAD_SIZE];

		logline_write_head(head, world->end);
		fwrite(head, 1, sizeof(head), file);
		world->end += sizeof(head);
	}
	fputs(text, file);
	world->end += strlen(text);
	fclose(file);
}

static void rotate(struct world *world)
{
	AUTO(free) char *one = mem_printf("%s.1", world->path);

	assert_int_equal(rename(world->path, one), 0);
}

static void begin(struct world *world, const struct logreader_range *range)
{
	logreader_done(&world->reader);
	logreader_init(&world->reader, world->path, range);
	logreader_open(&world->reader);
}

/* Everything that is there now, of both streams; error output in brackets. */
static char *read_all(struct world *world)
{
	AUTO(strbuf_done) struct strbuf all = {};
	enum logline_stream stream;
	int r;

	do {
		AUTO(strbuf_done) struct strbuf out = {};

		while ((r = logreader_take(&world->reader, 1000, &stream, &out)) > 0) {
			strbuf_printf(&all, stream == LOGLINE_STDERR ? "[%s]" : "%s",
				      strbuf_str(&out));
			strbuf_consume(&out, out.size);
		}
		assert_int_equal(r, 0);
	} while (logreader_fill(&world->reader));
	return strbuf_take(&all);
}

static void expect(struct world *world, const char *want)
{
	AUTO(free) char *got = read_all(world);

	assert_string_equal(got, want);
}

static const struct logreader_range everything = { .tail = -1 };

static void joins_pieces_and_follows(void **state)
{
	struct world *world = *state;

	append(world, T "1" NS "stdout F one\n" T "2" NS "stdout P tw\n");
	begin(world, &everything);
	expect(world, "one\ntw");
	append(world, T "3" NS "stderr F err\n" T "3" NS "stdout F o\n");
	expect(world, "[err\n]o\n");
	rotate(world);
	append(world, T "4" NS "stdout F three\n");
	expect(world, "three\n");
	expect(world, "");
}

static void stamps_each_line_once(void **state)
{
	struct world *world = *state;
	struct logreader_range range = { .tail = -1, .timestamps = true };

	append(world, T "1" NS "stdout P a\n" T "2" NS "stderr F e\n" T "3" NS "stdout F b\n");
	begin(world, &range);
	expect(world, T "1" NS "a[" T "2" NS "e\n]b\n");
}

static void selects_times_and_streams(void **state)
{
	struct world *world = *state;
	struct logreader_range range = { .tail = -1,
					 .since_ns = INT64_C(2000000000),
					 .until_ns = INT64_C(3000000000) };

	append(world, T "1" NS "stdout F 1\n" T "2" NS "stdout F 2\n" T "3" NS "stderr F 3\n" T
			"4" NS "stdout F 4\n");
	begin(world, &range);
	expect(world, "2\n[3\n]");
	assert_true(world->reader.over);
	range.streams = 1 << LOGLINE_STDOUT;
	begin(world, &range);
	expect(world, "2\n");
	range = (struct logreader_range){ .tail = 1, .until_ns = INT64_C(3000000000) };
	begin(world, &range);
	expect(world, "[3\n]");
}

/* From any place: with the cursor that was given there, the rest comes, and nothing else. */
static void goes_on_from_every_cursor(void **state)
{
	struct world *world = *state;
	static const char *const want = "onetwo\nthree\nfour\n";

	append(world, T "1" NS "stdout P one\n" T "1" NS "stdout F two\n");
	rotate(world);
	append(world, T "1" NS "stdout F three\n" T "1" NS "stdout F four\n");
	for (size_t take = 0; take < 4; take++) {
		AUTO(strbuf_done) struct strbuf out = {};
		struct logreader_range range = { .tail = -1 };
		char cursor[LOGREADER_CURSOR_SIZE];
		enum logline_stream stream;

		begin(world, &everything);
		logreader_fill(&world->reader);
		/* Room for one line after the other. */
		for (size_t n = 0; n < take; n++)
			while (logreader_take(&world->reader, LOGLINE_TIME_SIZE + 1 + 5, &stream,
					      &out) == 0)
				assert_true(logreader_fill(&world->reader));
		logreader_cursor(&world->reader, UID, cursor);
		assert_int_equal(logreader_parse_cursor(cursor, UID, &range, NULL), 0);
		begin(world, &range);
		AUTO(free) char *rest = read_all(world);
		AUTO(free) char *all = mem_printf("%s%s", strbuf_str(&out), rest);
		assert_string_equal(all, want);
	}
}

static void says_what_was_rotated_away(void **state)
{
	struct world *world = *state;

	append(world, T "1" NS "stdout F one\n");
	begin(world, &everything);
	expect(world, "one\n");
	uint64_t before = world->end;
	append(world, T "1" NS "stdout F open\n");
	rotate(world);
	append(world, T "1" NS "stdout F lost\n");
	rotate(world);
	append(world, T "1" NS "stdout F kept\n");
	rotate(world);
	uint64_t lost = world->end - before;
	append(world, T "1" NS "stdout F two\n");
	/* The file that was open is read to its end all the same. */
	expect(world, "open\nkept\ntwo\n");
	assert_true(world->reader.dropped > 0 && world->reader.dropped < lost);
}

static void refuses_other_cursors(void **state)
{
	static const char *const texts[] = { "",
					     "0123abcd",
					     "0123abcd-",
					     "0123abcd-1",
					     "0123abcd-1-9",
					     "0123abcd-1-2x",
					     "0123abcd--1-0",
					     "0123abcd-99999999999999999999-0",
					     "ffffffff-1-0",
					     "0123abcd-1-0-and-much-more-than-a-cursor-may-have" };
	struct logreader_range range = {};
	struct error err = {};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(texts); i++)
		assert_int_equal(logreader_parse_cursor(texts[i], UID, &range, &err), -EINVAL);
	assert_false(range.has_cursor);
}

static void a_file_of_nonsense_is_nothing(void **state)
{
	struct world *world = *state;
	AUTO(free) char *noise = mem_zalloc(300000);

	memset(noise, 'x', 300000);
	assert_int_equal(file_write_atomic(AT_FDCWD, world->path, noise, 300000, 0600, 0), 0);
	begin(world, &everything);
	expect(world, "");
	struct logreader_range range = { .tail = 5, .since_ns = 1 };
	begin(world, &range);
	expect(world, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(joins_pieces_and_follows, set_up, tear_down),
		cmocka_unit_test_setup_teardown(stamps_each_line_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(selects_times_and_streams, set_up, tear_down),
		cmocka_unit_test_setup_teardown(goes_on_from_every_cursor, set_up, tear_down),
		cmocka_unit_test_setup_teardown(says_what_was_rotated_away, set_up, tear_down),
		cmocka_unit_test(refuses_other_cursors),
		cmocka_unit_test_setup_teardown(a_file_of_nonsense_is_nothing, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
