#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "agent/record.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

static int make_folder(void **state)
{
	*state = mem_strdup("/tmp/brume-test-record-XXXXXX");
	return mkdtemp(*state) ? 0 : -1;
}

static int remove_folder(void **state)
{
	int r = file_remove_tree(AT_FDCWD, *state);

	free(*state);
	return r;
}

static void reads_what_it_wrote(void **state)
{
	AUTO(free) char *path = mem_printf("%s/node.json", (char *) *state);
	AUTO(record_done) struct record record = {}, got = {};

	record_init(&record);
	record.slot = 17;
	record.start_seq = 3;
	record.restarts = 2;
	record.ended = record.exited = true;
	record.exit_code = 137;
	record.started_ms = 1763689774123;
	record.finished_ms = 1763689775000;
	strcpy(record.run_id, "0123456789abcdef0123456789abcdef");
	strcpy(record.image_digest, "sha256:00");
	record.error = mem_strdup("killed because of \"this\"");
	assert_int_equal(record_store(path, &record, NULL), 0);
	assert_int_equal(record_load(path, &got, NULL), 0);
	assert_int_equal(got.slot, 17);
	assert_int_equal(got.start_seq, 3);
	assert_int_equal(got.restarts, 2);
	assert_true(got.ended && got.exited && !got.failed);
	assert_int_equal(got.exit_code, 137);
	assert_int_equal(got.started_ms, record.started_ms);
	assert_int_equal(got.finished_ms, record.finished_ms);
	assert_string_equal(got.run_id, record.run_id);
	assert_string_equal(got.image_digest, "sha256:00");
	assert_string_equal(got.error, record.error);
}

static void a_message_that_is_not_text_is_left_out(void **state)
{
	AUTO(free) char *path = mem_printf("%s/node.json", (char *) *state);
	AUTO(record_done) struct record record = {}, got = {};

	record_init(&record);
	record.error = mem_strdup("cut in a character: \xc3");
	assert_int_equal(record_store(path, &record, NULL), 0);
	assert_int_equal(record_load(path, &got, NULL), 0);
	assert_null(got.error);
}

static void refuses_what_is_not_a_record(void **state)
{
	AUTO(free) char *path = mem_printf("%s/node.json", (char *) *state);
	static const char *const bad[] = {
		"", "{", "[]", "{\"slot\":-1}", "{\"slot\":99999999}", "{\"x\":1}"
	};
	struct record got;
	struct error err;

	assert_int_equal(record_load("/nowhere/node.json", &got, &err), -ENOENT);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(file_write_atomic(AT_FDCWD, path, bad[i], strlen(bad[i]), 0600, 0),
				 0);
		assert_true(record_load(path, &got, &err) < 0);
		assert_non_null(strstr(err.msg, "node.json"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_it_wrote),
		cmocka_unit_test(a_message_that_is_not_text_is_left_out),
		cmocka_unit_test(refuses_what_is_not_a_record),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
