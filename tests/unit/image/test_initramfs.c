#include "image/initramfs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/strbuf.h"

/* libarchive reads what the kernel will. */
static void test_archive(void **test_state)
{
	AUTO(strbuf_done) struct strbuf out = {};
	struct archive *archive = archive_read_new();
	struct archive_entry *entry;
	char buffer[16];

	(void) test_state;
	initramfs_add_folder(&out, "dev");
	initramfs_add_file(&out, "init", 0755, "abcde", 5);
	initramfs_add_file(&out, "empty", 0644, NULL, 0);
	initramfs_end(&out);
	assert_int_equal(out.size % 4, 0);
	archive_read_support_format_cpio(archive);
	assert_int_equal(archive_read_open_memory(archive, out.data, out.size), ARCHIVE_OK);
	assert_int_equal(archive_read_next_header(archive, &entry), ARCHIVE_OK);
	assert_string_equal(archive_entry_pathname(entry), "dev");
	assert_int_equal(archive_entry_mode(entry), 040755);
	assert_int_equal(archive_read_next_header(archive, &entry), ARCHIVE_OK);
	assert_string_equal(archive_entry_pathname(entry), "init");
	assert_int_equal(archive_entry_mode(entry), 0100755);
	assert_int_equal(archive_read_data(archive, buffer, sizeof(buffer)), 5);
	assert_memory_equal(buffer, "abcde", 5);
	assert_int_equal(archive_read_next_header(archive, &entry), ARCHIVE_OK);
	assert_string_equal(archive_entry_pathname(entry), "empty");
	assert_int_equal(archive_read_next_header(archive, &entry), ARCHIVE_EOF);
	archive_read_free(archive);
}

static void test_instance(void **test_state)
{
	AUTO(fd_close) int fd = -1;
	char buffer[1024] = "";

	(void) test_state;
	assert_int_equal(initramfs_of_instance("{\"version\":1}", &fd, NULL), 0);
	assert_true(read(fd, buffer, sizeof(buffer)) > 0);
	assert_memory_equal(buffer, "070701", 6);
	assert_non_null(memmem(buffer, sizeof(buffer), "brume/guest.json", 16));
	assert_non_null(memmem(buffer, sizeof(buffer), "{\"version\":1}", 13));
	/* Nobody who gets the descriptor can change it. */
	assert_int_equal(write(fd, "x", 1), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_archive),
		cmocka_unit_test(test_instance),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
