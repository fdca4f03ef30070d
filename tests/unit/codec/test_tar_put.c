#include "codec/tar_put.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/strbuf.h"

static void test_short(void **test_state)
{
	AUTO(strbuf_done) struct strbuf out = {};
	struct tar_put entry = { .type = TAR_FILE,
				 .name = "a/b",
				 .size = 513,
				 .mode = 04755,
				 .uid = 7,
				 .gid = 8,
				 .mtime = 1234567890 };
	struct tar_header header;

	(void) test_state;
	tar_put_header(&out, &entry);
	assert_int_equal(out.size, TAR_BLOCK_SIZE);
	assert_int_equal(tar_header_decode(out.data, &header, NULL), 0);
	assert_string_equal(header.name, "a/b");
	assert_int_equal(header.size, 513);
	assert_int_equal(header.mode, 04755);
	assert_int_equal(header.uid, 7);
	assert_int_equal(header.gid, 8);
	assert_int_equal(header.mtime, 1234567890);
}

/* What ustar has no room for stands in records before it. */
static void test_records(void **test_state)
{
	AUTO(strbuf_done) struct strbuf out = {};
	char name[301], link[201];
	struct tar_put entry = { .type = TAR_SYMLINK,
				 .name = name,
				 .link = link,
				 .size = UINT64_C(1) << 40,
				 .uid = 3000000,
				 .gid = 4000000,
				 .mtime = 5,
				 .mtime_ns = 250000000 };
	struct tar_records records = {};
	struct tar_header header;

	(void) test_state;
	memset(name, 'n', 300);
	memset(link, 'l', 200);
	name[300] = link[200] = '\0';
	tar_put_header(&out, &entry);
	assert_int_equal(tar_header_decode(out.data, &header, NULL), 0);
	assert_int_equal(header.type, TAR_PAX);
	assert_int_equal(tar_records_decode(out.data + TAR_BLOCK_SIZE, header.size, &records, NULL),
			 0);
	assert_string_equal(records.path, name);
	assert_string_equal(records.linkpath, link);
	assert_true(records.has_size && records.size == entry.size);
	assert_int_equal(records.uid, 3000000);
	assert_int_equal(records.gid, 4000000);
	assert_int_equal(records.mtime, 5);
	assert_int_equal(records.mtime_ns, 250000000);
	assert_int_equal(tar_header_decode(out.data + out.size - TAR_BLOCK_SIZE, &header, NULL), 0);
	assert_int_equal(header.type, TAR_SYMLINK);
	tar_records_done(&records);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_short),
		cmocka_unit_test(test_records),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
