#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/mem.h"
#include "keeper/joblog.h"

static char buffer[JOBLOG_BUFFER_SIZE];

static int make_folder(void **state)
{
	*state = mem_strdup("/tmp/brume-test-joblog-XXXXXX");
	return mkdtemp(*state) ? 0 : -1;
}

static int remove_folder(void **state)
{
	int r = file_remove_tree(AT_FDCWD, *state);

	free(*state);
	return r;
}

static struct joblog_batch batch_of(struct joblog *log, enum logline_stream stream,
				    const char *text, size_t size)
{
	struct joblog_batch batch = { .stream = stream, .text = text, .size = size };

	joblog_begin(log, &batch);
	return batch;
}

static void say(struct joblog *log, enum logline_stream stream, const char *text)
{
	struct joblog_batch batch = batch_of(log, stream, text, strlen(text));

	joblog_write(log, &batch, buffer);
}

/* A file's text behind its head, which must say `base`. */
static void expect_at(const char *path, uint64_t base, const char *want)
{
	AUTO(free) char *text = NULL;
	uint64_t position;
	size_t size;

	assert_int_equal(file_read(AT_FDCWD, path, 1 << 24, &text, &size), 0);
	assert_int_equal(logline_parse_head(text, size, &position), 0);
	assert_int_equal(position, base);
	assert_string_equal(text + LOGLINE_HEAD_SIZE, want);
}

static void expect(const char *path, const char *want)
{
	expect_at(path, 0, want);
}

#define T "1970-01-01T00:00:00.000000000Z "

enum { LINE = LOGLINE_PREFIX_SIZE + 2, FILE_OF_TWO = LOGLINE_HEAD_SIZE + 2 * LINE };

static void marks_pieces(void **state)
{
	AUTO(free) char *path = mem_printf("%s/pieces", (char *) *state);
	struct joblog log;

	joblog_init(&log, path, 0, 0);
	say(&log, LOGLINE_STDOUT, "one\n\nthree");
	say(&log, LOGLINE_STDERR, "err\n");
	say(&log, LOGLINE_STDOUT, "\n");
	joblog_done(&log);
	expect(path, T "stdout F one\n" T "stdout F \n" T "stdout P three\n" T "stderr F err\n" T
		       "stdout F \n");
}

static void closes_a_line_that_a_crash_cut(void **state)
{
	AUTO(free) char *path = mem_printf("%s/torn", (char *) *state);
	AUTO(free) char *text = NULL;
	struct joblog log;

	assert_int_equal(file_write_atomic(AT_FDCWD, path, "1970-01", 7, 0600, 0), 0);
	joblog_init(&log, path, 0, 0);
	say(&log, LOGLINE_STDOUT, "next\n");
	joblog_done(&log);
	assert_int_equal(file_read(AT_FDCWD, path, 1 << 20, &text, NULL), 0);
	assert_string_equal(text, "1970-01\n" T "stdout F next\n");
}

static void rotates_and_keeps_positions(void **state)
{
	AUTO(free) char *path = mem_printf("%s/rotated", (char *) *state);
	AUTO(free) char *one = mem_printf("%s.1", path);
	AUTO(free) char *two = mem_printf("%s.2", path);
	AUTO(free) char *three = mem_printf("%s.3", path);
	struct joblog log;

	joblog_init(&log, path, FILE_OF_TWO, 3);
	say(&log, LOGLINE_STDOUT, "a\n");
	say(&log, LOGLINE_STDOUT, "b\n");
	say(&log, LOGLINE_STDOUT, "c\n");
	expect(one, T "stdout F a\n" T "stdout F b\n");
	expect_at(path, FILE_OF_TWO, T "stdout F c\n");
	joblog_close(&log);
	say(&log, LOGLINE_STDOUT, "d\n");
	say(&log, LOGLINE_STDOUT, "e\n");
	expect(two, T "stdout F a\n" T "stdout F b\n");
	expect_at(one, FILE_OF_TWO, T "stdout F c\n" T "stdout F d\n");
	say(&log, LOGLINE_STDOUT, "f\n");
	say(&log, LOGLINE_STDOUT, "g\n");
	joblog_done(&log);
	expect_at(two, FILE_OF_TWO, T "stdout F c\n" T "stdout F d\n");
	expect_at(path, 3 * FILE_OF_TWO, T "stdout F g\n");
	assert_int_equal(access(three, F_OK), -1);
}

/* A crash between two renames leaves a hole; positions go on all the same. */
static void goes_on_over_a_hole(void **state)
{
	AUTO(free) char *path = mem_printf("%s/hole", (char *) *state);
	AUTO(free) char *two = mem_printf("%s.2", path);
	struct joblog log;

	joblog_init(&log, path, FILE_OF_TWO, 3);
	say(&log, LOGLINE_STDOUT, "a\n");
	say(&log, LOGLINE_STDOUT, "b\n");
	joblog_close(&log);
	assert_int_equal(rename(path, two), 0);
	say(&log, LOGLINE_STDOUT, "c\n");
	joblog_done(&log);
	expect_at(path, FILE_OF_TWO, T "stdout F c\n");
}

/* However much of a batch was written before a crash: afterwards all of it is there, once. */
static void writes_again_what_a_crash_cut(void **state)
{
	AUTO(free) char *path = mem_printf("%s/again", (char *) *state);
	static const char whole[] = T "stdout F a\n" T "stdout F b\n" T "stdout P c\n";
	size_t size = LOGLINE_HEAD_SIZE + sizeof(whole) - 1;

	for (size_t cut = LOGLINE_HEAD_SIZE + LINE; cut <= size; cut++) {
		struct joblog log;

		unlink(path);
		joblog_init(&log, path, 0, 0);
		say(&log, LOGLINE_STDOUT, "a\n");
		struct joblog_batch batch = batch_of(&log, LOGLINE_STDOUT, "b\nc", 3);
		joblog_write(&log, &batch, buffer);
		joblog_done(&log);
		assert_int_equal(truncate(path, (off_t) cut), 0);
		joblog_init(&log, path, 0, 0);
		joblog_write_again(&log, &batch, buffer);
		joblog_done(&log);
		expect(path, whole);
	}
}

static void writes_again_in_the_file_made_for_it(void **state)
{
	AUTO(free) char *path = mem_printf("%s/again-rotated", (char *) *state);
	AUTO(free) char *one = mem_printf("%s.1", path);

	for (int cut = 0; cut <= LINE; cut++) {
		struct joblog log;

		unlink(path);
		unlink(one);
		joblog_init(&log, path, FILE_OF_TWO, 2);
		say(&log, LOGLINE_STDOUT, "a\n");
		say(&log, LOGLINE_STDOUT, "b\n");
		struct joblog_batch batch = batch_of(&log, LOGLINE_STDOUT, "c\n", 2);
		joblog_write(&log, &batch, buffer);
		joblog_done(&log);
		assert_int_equal(truncate(path, LOGLINE_HEAD_SIZE + cut), 0);
		joblog_init(&log, path, FILE_OF_TWO, 2);
		joblog_write_again(&log, &batch, buffer);
		joblog_done(&log);
		expect(one, T "stdout F a\n" T "stdout F b\n");
		expect_at(path, FILE_OF_TWO, T "stdout F c\n");
	}
}

/* What a crash leaves when the log had grown to `end`: the files that had begun, cut there. */
static void cut_at(const char *path, uint64_t end)
{
	AUTO(free) char *one = mem_printf("%s.1", path);
	AUTO(free) char *two = mem_printf("%s.2", path);

	for (uint64_t base = 2 * FILE_OF_TWO; base > end; base -= FILE_OF_TWO) {
		assert_int_equal(rename(one, path), 0);
		if (base == 2 * FILE_OF_TWO)
			assert_int_equal(rename(two, one), 0);
	}
	assert_int_equal(truncate(path, (off_t) (end % FILE_OF_TWO)), 0);
}

/* A batch fills several files, none larger than asked; a crash at any byte of it changes nothing.
 */
static void spreads_a_batch_over_files(void **state)
{
	AUTO(free) char *path = mem_printf("%s/spread", (char *) *state);
	AUTO(free) char *one = mem_printf("%s.1", path);
	AUTO(free) char *two = mem_printf("%s.2", path);

	for (uint64_t end = LOGLINE_HEAD_SIZE + LINE; end <= 3 * FILE_OF_TWO; end++) {
		struct joblog log;

		/* A head is written at once. */
		if (end % FILE_OF_TWO > 0 && end % FILE_OF_TWO < LOGLINE_HEAD_SIZE)
			continue;
		unlink(path);
		unlink(one);
		unlink(two);
		joblog_init(&log, path, FILE_OF_TWO, 3);
		say(&log, LOGLINE_STDOUT, "a\n");
		struct joblog_batch batch = batch_of(&log, LOGLINE_STDOUT, "b\nc\nd\ne\nf\n", 10);
		joblog_write(&log, &batch, buffer);
		joblog_done(&log);
		if (end < 3 * FILE_OF_TWO)
			cut_at(path, end);
		joblog_init(&log, path, FILE_OF_TWO, 3);
		joblog_write_again(&log, &batch, buffer);
		joblog_done(&log);
		expect(two, T "stdout F a\n" T "stdout F b\n");
		expect_at(one, FILE_OF_TWO, T "stdout F c\n" T "stdout F d\n");
		expect_at(path, 2 * FILE_OF_TWO, T "stdout F e\n" T "stdout F f\n");
	}
}

/* A text of only line ends grows 41-fold: it takes many rounds of the buffer, and none is lost. */
static void loses_nothing_of_many_empty_lines(void **state)
{
	AUTO(free) char *path = mem_printf("%s/many", (char *) *state);
	static char ends[4 * LOGLINE_TEXT_MAX];
	AUTO(free) char *text = NULL;
	size_t size, lines = 0;
	struct joblog log;

	memset(ends, '\n', sizeof(ends));
	joblog_init(&log, path, 0, 0);
	struct joblog_batch batch = batch_of(&log, LOGLINE_STDOUT, ends, sizeof(ends));
	joblog_write(&log, &batch, buffer);
	memset(ends, 'x', sizeof(ends));
	batch = batch_of(&log, LOGLINE_STDOUT, ends, sizeof(ends));
	joblog_write(&log, &batch, buffer);
	joblog_done(&log);
	assert_int_equal(file_read(AT_FDCWD, path, 1 << 24, &text, &size), 0);
	for (size_t i = 0; i < size; i++)
		lines += text[i] == '\n';
	assert_int_equal(lines, 1 + sizeof(ends) + 4);
}

static void goes_on_after_the_disk_failed(void **state)
{
	AUTO(free) char *folder = mem_printf("%s/later", (char *) *state);
	AUTO(free) char *path = mem_printf("%s/log", folder);
	struct joblog log;

	joblog_init(&log, path, 0, 0);
	say(&log, LOGLINE_STDOUT, "lost\n");
	assert_true(log.failing);
	assert_int_equal(file_mkdir_all(folder, 0700), 0);
	say(&log, LOGLINE_STDOUT, "kept\n");
	assert_false(log.failing);
	joblog_done(&log);
	expect(path, T "stdout F kept\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(marks_pieces),
		cmocka_unit_test(closes_a_line_that_a_crash_cut),
		cmocka_unit_test(rotates_and_keeps_positions),
		cmocka_unit_test(goes_on_over_a_hole),
		cmocka_unit_test(writes_again_what_a_crash_cut),
		cmocka_unit_test(writes_again_in_the_file_made_for_it),
		cmocka_unit_test(spreads_a_batch_over_files),
		cmocka_unit_test(loses_nothing_of_many_empty_lines),
		cmocka_unit_test(goes_on_after_the_disk_failed),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
