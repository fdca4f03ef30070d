#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "client/tar.h"

static int make_folder(void **state)
{
	char *folder = mem_strdup("/tmp/brume-tar-XXXXXX");

	*state = mkdtemp(folder);
	return *state ? 0 : -1;
}

static int remove_folder(void **state)
{
	int r = file_remove_tree(AT_FDCWD, *state);

	free(*state);
	return r;
}

static void write_file(const char *folder, const char *name, const char *text)
{
	AUTO(free) char *path = mem_printf("%s/%s", folder, name);

	assert_int_equal(file_write_atomic(AT_FDCWD, path, text, strlen(text), 0644, 0), 0);
}

static void make_subfolder(const char *folder, const char *name)
{
	AUTO(free) char *path = mem_printf("%s/%s", folder, name);

	assert_int_equal(file_mkdir_all(path, 0755), 0);
}

/* Reads the whole tar, in pieces of an odd size. */
static int read_all(const char *folder, struct strbuf *out, struct error *err)
{
	AUTO(tar_free) struct tar *tar = NULL;
	ssize_t n = tar_new(folder, &tar, err);

	while (n >= 0) {
		n = tar_read(tar, strbuf_reserve(out, 333), 333, err);
		if (n <= 0)
			break;
		strbuf_grown(out, (size_t) n);
	}
	return (int) n;
}

static void check_checksum(const char *header)
{
	unsigned int sum = 0;

	for (int i = 0; i < 512; i++)
		sum += i >= 148 && i < 156 ? ' ' : (unsigned char) header[i];
	assert_int_equal(strtoul(header + 148, NULL, 8), sum);
}

static void test_content(void **state)
{
	AUTO(strbuf_done) struct strbuf tar = {};
	struct error err = {};
	const char *folder = *state, *at;

	write_file(folder, "oci-layout", "{}");
	write_file(folder, "empty", "");
	make_subfolder(folder, "blobs/sha256");
	write_file(folder, "blobs/sha256/abc", "0123456789");
	assert_int_equal(read_all(folder, &tar, &err), 0);

	/* blobs/, blobs/sha256/, abc + data, empty, oci-layout + data, end mark: sorted by name. */
	assert_int_equal(tar.size, 512 * (1 + 1 + 2 + 1 + 2 + 2));
	at = tar.data;
	assert_string_equal(at, "blobs/");
	assert_int_equal(at[156], '5');
	check_checksum(at);
	assert_string_equal(at + 512, "blobs/sha256/");
	at += 1024;
	assert_string_equal(at, "blobs/sha256/abc");
	assert_int_equal(at[156], '0');
	assert_string_equal(at + 124, "00000000012");
	assert_memory_equal(at + 257, "ustar\00000", 8);
	check_checksum(at);
	assert_string_equal(at + 512, "0123456789");
	assert_string_equal(at + 1024, "empty");
	assert_string_equal(at + 1536, "oci-layout");
}

static void test_long_name(void **state)
{
	AUTO(strbuf_done) struct strbuf tar = {};
	AUTO(free) char *name = mem_zalloc(151), *record = NULL;
	struct error err = {};

	memset(name, 'n', 150);
	write_file(*state, name, "x");
	assert_int_equal(read_all(*state, &tar, &err), 0);
	record = mem_printf("160 path=%s\n", name);
	assert_int_equal(strlen(record), 160);
	assert_int_equal(tar.data[156], 'x');
	assert_memory_equal(tar.data + 512, record, 160);
	check_checksum(tar.data);
	check_checksum(tar.data + 1024);
	assert_string_equal(tar.data + 1536, "x");
}

static void test_refused(void **state)
{
	AUTO(strbuf_done) struct strbuf tar = {};
	AUTO(free) char *link = mem_printf("%s/link", (char *) *state);
	struct error err = {};

	assert_int_equal(symlink("/etc/passwd", link), 0);
	assert_int_equal(read_all(*state, &tar, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "link"));
	assert_int_equal(read_all("/nonexistent/folder", &tar, &err), -ENOENT);
}

static void test_changed_meanwhile(void **state)
{
	AUTO(tar_free) struct tar *tar = NULL;
	struct error err = {};
	char data[4096];
	ssize_t n;

	write_file(*state, "file", "12345");
	assert_int_equal(tar_new(*state, &tar, &err), 0);
	write_file(*state, "file", "1234567");
	do
		n = tar_read(tar, data, sizeof(data), &err);
	while (n > 0);
	assert_int_equal(n, -ESTALE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_content, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_long_name, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_refused, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_changed_meanwhile, make_folder, remove_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
