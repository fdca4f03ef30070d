#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
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

static void say(struct joblog *log, enum logline_stream stream, const char *text)
{
	joblog_write(log, stream, 0, text, strlen(text), buffer);
}

static void expect(const char *path, const char *want)
{
	AUTO(free) char *text = NULL;

	assert_int_equal(file_read(AT_FDCWD, path, 1 << 24, &text, NULL), 0);
	assert_string_equal(text, want);
}

#define T "1970-01-01T00:00:00.000000000Z "

static void marks_pieces(void **state)
{
	AUTO(free) char *path = mem_printf("%s/pieces", (char *) *state);
	struct joblog log;

	joblog_init(&log, path, 0);
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
	struct joblog log;

	assert_int_equal(file_write_atomic(AT_FDCWD, path, "1970-01", 7, 0600, 0), 0);
	joblog_init(&log, path, 0);
	say(&log, LOGLINE_STDOUT, "next\n");
	joblog_done(&log);
	expect(path, "1970-01\n" T "stdout F next\n");
}

static void rotates_once(void **state)
{
	AUTO(free) char *path = mem_printf("%s/rotated", (char *) *state);
	AUTO(free) char *old = mem_printf("%s.1", path);
	struct joblog log;

	joblog_init(&log, path, 100);
	say(&log, LOGLINE_STDOUT, "a\n");
	say(&log, LOGLINE_STDOUT, "b\n");
	say(&log, LOGLINE_STDOUT, "c\n");
	expect(old, T "stdout F a\n" T "stdout F b\n");
	expect(path, T "stdout F c\n");
	say(&log, LOGLINE_STDOUT, "d\n");
	say(&log, LOGLINE_STDOUT, "e\n");
	joblog_done(&log);
	expect(old, T "stdout F c\n" T "stdout F d\n");
	expect(path, T "stdout F e\n");
}

/* A text of only line ends grows 41-fold: it takes many rounds of the buffer, and none is lost. */
static void loses_nothing_of_many_empty_lines(void **state)
{
	AUTO(free) char *path = mem_printf("%s/many", (char *) *state);
	static char ends[LOGLINE_TEXT_MAX];
	AUTO(free) char *text = NULL;
	size_t size, lines = 0;
	struct joblog log;

	memset(ends, '\n', sizeof(ends));
	joblog_init(&log, path, 0);
	joblog_write(&log, LOGLINE_STDOUT, 0, ends, sizeof(ends), buffer);
	memset(ends, 'x', sizeof(ends));
	joblog_write(&log, LOGLINE_STDOUT, 0, ends, sizeof(ends), buffer);
	joblog_done(&log);
	assert_int_equal(file_read(AT_FDCWD, path, 1 << 24, &text, &size), 0);
	for (size_t i = 0; i < size; i++)
		lines += text[i] == '\n';
	assert_int_equal(lines, LOGLINE_TEXT_MAX + 1);
}

static void goes_on_after_the_disk_failed(void **state)
{
	AUTO(free) char *folder = mem_printf("%s/later", (char *) *state);
	AUTO(free) char *path = mem_printf("%s/log", folder);
	struct joblog log;

	joblog_init(&log, path, 0);
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
		cmocka_unit_test(rotates_once),
		cmocka_unit_test(loses_nothing_of_many_empty_lines),
		cmocka_unit_test(goes_on_after_the_disk_failed),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
