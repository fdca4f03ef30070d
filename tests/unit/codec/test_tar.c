#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "codec/tar.h"

static void sign(char *block)
{
	unsigned int sum = 0;

	memset(block + 148, ' ', 8);
	for (int i = 0; i < TAR_BLOCK_SIZE; i++)
		sum += (unsigned char) block[i];
	snprintf(block + 148, 8, "%06o", sum);
}

static void make(char *block)
{
	memset(block, 0, TAR_BLOCK_SIZE);
	strcpy(block, "name");
	strcpy(block + 100, "0000644");
	strcpy(block + 108, "0000017");
	strcpy(block + 116, "0000020");
	strcpy(block + 124, "00000001000");
	strcpy(block + 136, "00000000012");
	block[156] = '0';
	memcpy(block + 257, "ustar\00000", 8);
	sign(block);
}

static void test_padding(void **state)
{
	(void) state;
	assert_int_equal(tar_padding(513), 511);
	assert_int_equal(tar_padding(1024), 0);
}

static void test_header(void **state)
{
	char block[TAR_BLOCK_SIZE];
	struct tar_header header;

	(void) state;
	make(block);
	assert_int_equal(tar_header_decode(block, &header, NULL), 0);
	assert_string_equal(header.name, "name");
	assert_int_equal(header.type, TAR_FILE);
	assert_int_equal(header.mode, 0644);
	assert_int_equal(header.uid, 017);
	assert_int_equal(header.gid, 020);
	assert_int_equal(header.size, 01000);
	assert_int_equal(header.mtime, 012);

	/* All of name and prefix, without a zero behind them. */
	memset(block, 'n', 100);
	memset(block + 345, 'p', 155);
	memset(block + 157, 'l', 100);
	sign(block);
	assert_int_equal(tar_header_decode(block, &header, NULL), 0);
	assert_int_equal(strlen(header.name), 256);
	assert_int_equal(strlen(header.link), 100);

	memset(block, 0, sizeof(block));
	assert_int_equal(tar_header_decode(block, &header, NULL), 1);
}

static void test_numbers(void **state)
{
	char block[TAR_BLOCK_SIZE];
	struct tar_header header;
	struct error err;

	(void) state;
	make(block);
	memcpy(block + 124, "\x80\0\0\0\x01\0\0\0\0\0\0\x05", 12);
	sign(block);
	assert_int_equal(tar_header_decode(block, &header, &err), 0);
	assert_int_equal(header.size, 0x0100000000000005);

	memcpy(block + 124, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12);
	sign(block);
	assert_int_equal(tar_header_decode(block, &header, &err), -EBADMSG);
	memcpy(block + 124, "\x80\x01\0\0\0\0\0\0\0\0\0\0", 12);
	sign(block);
	assert_int_equal(tar_header_decode(block, &header, &err), -EBADMSG);
	memcpy(block + 124, "000000x0000", 12);
	sign(block);
	assert_int_equal(tar_header_decode(block, &header, &err), -EBADMSG);

	make(block);
	block[0]++;
	assert_int_equal(tar_header_decode(block, &header, &err), -EBADMSG);
}

static void test_records(void **state)
{
	struct tar_records records = {};

	(void) state;
	assert_int_equal(tar_records_decode("", 0, &records, NULL), 0);
	assert_int_equal(tar_records_decode("12 path=a/b\n", 12, &records, NULL), 0);
	assert_string_equal(records.path, "a/b");
	/* The last one counts. */
	assert_int_equal(tar_records_decode("10 path=c\n14 linkpath=d\n", 24, &records, NULL), 0);
	assert_string_equal(records.path, "c");
	assert_string_equal(records.linkpath, "d");
	assert_int_equal(tar_records_decode("16 mtime=17.25x\n", 16, &records, NULL), -EBADMSG);
	assert_int_equal(tar_records_decode("15 mtime=17.25\n", 15, &records, NULL), 0);
	assert_int_equal(records.mtime, 17);
	assert_int_equal(records.mtime_ns, 250000000);
	assert_int_equal(tar_records_decode("20 size=99999999999\n", 20, &records, NULL), 0);
	assert_int_equal(records.size, 99999999999);
	assert_int_equal(tar_records_decode("11 a.b=c=d\n", 11, &records, NULL), 0);
	tar_records_done(&records);
}

static void test_bad_records(void **state)
{
	static const char *const bad[] = {
		"12 path=a/b",   /* cut */
		"13 path=a/b\n", /* too long */
		"11 path=a/b\n", /* too short */
		"x path=a\n",
		"99999999999999999999 path=a\n",
		" path=a\n",
		"8 path=\n",
		"7 path\n",
		"12 size=abc\n",
		"29 size=99999999999999999999\n",
		"19 uid=4294967296\n",
		"21 GNU.sparse.map=0\n",
		"0 \n",
	};

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct tar_records records = {};
		struct error err = {};

		if (tar_records_decode(bad[i], strlen(bad[i]), &records, &err) != -EBADMSG)
			fail_msg("taken: %s", bad[i]);
		assert_true(err.msg[0]);
		tar_records_done(&records);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_padding),     cmocka_unit_test(test_header),
		cmocka_unit_test(test_numbers),     cmocka_unit_test(test_records),
		cmocka_unit_test(test_bad_records),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
